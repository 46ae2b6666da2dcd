// Package test holds the end-to-end tests: the built binary, real browsers, real
// databases and other people's clients. They run with `make test` (build tag e2e).
package test
