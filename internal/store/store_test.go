package store_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(childVariable); config != "" {
		admitForever(config)
	}
	os.Exit(storetest.Main(m))
}

// databases are what every test of the suite runs on.
func databases() map[string]func(testing.TB) store.Config {
	return map[string]func(testing.TB) store.Config{"sqlite": storetest.SQLite, "postgres": storetest.Postgres}
}

// onBoth runs f on a new store of each kind.
func onBoth(t *testing.T, f func(t *testing.T, ctx context.Context, s *store.Store)) {
	t.Helper()
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			f(t, ctx, storetest.Open(t, config(t)))
		})
	}
}

// start is when the tests take place: now, in the precision of the store.
func start() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// check ends the test at an error that is not to be.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want demands an error of a kind; nil: none.
func want(t testing.TB, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got error %v, want %v", err, kind)
	}
}

func addApp(t testing.TB, ctx context.Context, s *store.Store, name string) {
	t.Helper()
	check(t, s.CreateApp(ctx, token.App{Name: name, Created: start()}))
}

// race runs f n times at once and returns the results. As it runs in goroutines, f
// must not end the test.
func race[T any](n int, f func(i int) T) []T {
	results := make([]T, n)
	var all sync.WaitGroup
	gun := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-gun
			results[i] = f(i)
		})
	}
	close(gun)
	all.Wait()
	return results
}

// noSecret demands that an error does not give away a password of these tests.
func noSecret(t testing.TB, err error) {
	t.Helper()
	if strings.Contains(err.Error(), "hush") {
		t.Fatalf("the error tells the secret: %v", err)
	}
}
