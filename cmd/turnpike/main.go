// Command turnpike runs a Turnpike server, and manages one from the command line.
//
// serve and demo are servers. The other commands talk to the server of a data
// directory through its Unix socket, or, when none runs there, work on the
// directory itself. token connect and token user need neither: they only sign.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default comes back: a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
