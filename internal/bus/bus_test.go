package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/bus"
	"github.com/turnpike-rtc/turnpike/internal/bus/bustest"
)

// inAllSettings runs f with two nodes in each of the three settings; in the first they
// are one and the same.
func inAllSettings(t *testing.T, f func(t *testing.T, ctx context.Context, a, b *bus.Bus)) {
	settings := []struct {
		name string
		open func(t *testing.T) (a, b *bus.Bus)
	}{
		{"in process", func(t *testing.T) (*bus.Bus, *bus.Bus) {
			a := open(t, bus.Config{Name: "a"})
			return a, a
		}},
		{"joined by a route", joined},
		{"external server", func(t *testing.T) (*bus.Bus, *bus.Bus) {
			server := bustest.External(t)
			return open(t, bus.Config{Name: "a", URL: server.URL}), open(t, bus.Config{Name: "b", URL: server.URL})
		}},
	}
	for _, setting := range settings {
		t.Run(setting.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			a, b := setting.open(t)
			f(t, ctx, a, b)
		})
	}
}

func open(t testing.TB, c bus.Config) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b, err := bus.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func joined(t *testing.T) (a, b *bus.Bus) {
	a = open(t, bus.Config{Name: "a", Listen: "127.0.0.1:0", RouteSecret: "of the route"})
	b = open(t, bus.Config{Name: "b", Listen: "127.0.0.1:0", RouteSecret: "of the route", Routes: []string{a.RouteAddr()}})
	return a, b
}

// answered repeats a request until somebody answers it: interest takes a moment to
// reach the other node.
func answered(t *testing.T, ctx context.Context, b *bus.Bus, subject, data string) string {
	t.Helper()
	for {
		answer, err := try(ctx, b, subject, data)
		if err == nil {
			return answer
		}
		if ctx.Err() != nil || !errors.Is(err, bus.ErrNoResponders) && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// silent waits until nobody answers the subject any more, as far as b can tell.
func silent(t *testing.T, ctx context.Context, b *bus.Bus, subject string) {
	t.Helper()
	for {
		_, err := try(ctx, b, subject, "")
		if errors.Is(err, bus.ErrNoResponders) {
			return
		}
		if ctx.Err() != nil || err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// try requests with a short limit: while interest comes or goes, a request may get lost.
func try(ctx context.Context, b *bus.Bus, subject, data string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	answer, err := b.Request(ctx, subject, []byte(data))
	return string(answer), err
}

// echo answers with what it was asked, after the name of the node.
func echo(node string) func(context.Context, []byte) []byte {
	return func(_ context.Context, data []byte) []byte { return []byte(node + ":" + string(data)) }
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestRequestReachesTheNodeThatAnswers(t *testing.T) {
	inAllSettings(t, func(t *testing.T, ctx context.Context, a, b *bus.Bus) {
		stop := must[func()](t)(b.Answer("dev.cam", echo("b")))
		if got := answered(t, ctx, a, "dev.cam", "offer"); got != "b:offer" {
			t.Fatalf("got %q", got)
		}
		stop()
		stop() // does no harm
		silent(t, ctx, a, "dev.cam")
	})
}

func TestNobodyAnswersIsKnownAtOnce(t *testing.T) {
	inAllSettings(t, func(t *testing.T, ctx context.Context, a, _ *bus.Bus) {
		began := time.Now()
		_, err := a.Request(ctx, "dev.absent", nil)
		if !errors.Is(err, bus.ErrNoResponders) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestPublishReachesAllSubscribers(t *testing.T) {
	inAllSettings(t, func(t *testing.T, ctx context.Context, a, b *bus.Bus) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		heard := make(chan string)
		hear := func(node string) func([]byte) {
			return func(data []byte) {
				select {
				case heard <- node + ":" + string(data):
				case <-ctx.Done():
				}
			}
		}
		defer must[func()](t)(a.Subscribe("wake", hear("a")))()
		defer must[func()](t)(b.Subscribe("wake", hear("b")))()
		missing := map[string]bool{"a:up": true, "b:up": true}
		for len(missing) > 0 {
			if err := a.Publish("wake", []byte("up")); err != nil {
				t.Fatal(err)
			}
			select {
			case who := <-heard:
				delete(missing, who)
			case <-time.After(10 * time.Millisecond): // publish again: interest may not have arrived
			case <-ctx.Done():
				t.Fatalf("not heard by %v", missing)
			}
		}
	})
}

func TestSlowHandlersDelayNobody(t *testing.T) {
	inAllSettings(t, func(t *testing.T, ctx context.Context, a, b *bus.Bus) {
		release := make(chan struct{})
		must[func()](t)(b.Subscribe("slow", func([]byte) { <-release }))
		must[func()](t)(b.Answer("dev.slow", func(context.Context, []byte) []byte { <-release; return []byte("late") }))
		must[func()](t)(b.Answer("dev.quick", echo("b")))
		answered(t, ctx, a, "dev.quick", "")
		if err := a.Publish("slow", nil); err != nil {
			t.Fatal(err)
		}
		var slow sync.WaitGroup
		for range 100 {
			slow.Go(func() {
				if _, err := a.Request(ctx, "dev.slow", nil); err != nil {
					t.Errorf("slow request: %v", err)
				}
			})
		}
		for range 100 {
			began := time.Now()
			must[[]byte](t)(a.Request(ctx, "dev.quick", nil))
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("took %v beside slow ones", took)
			}
		}
		close(release)
		slow.Wait()
	})
}

func TestHandlersContextEndsWithTheAsker(t *testing.T) {
	inAllSettings(t, func(t *testing.T, ctx context.Context, a, b *bus.Bus) {
		ended := make(chan error, 1)
		must[func()](t)(b.Answer("dev.ready", echo("b")))
		must[func()](t)(b.Answer("dev.silent", func(ctx context.Context, _ []byte) []byte {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil
		}))
		answered(t, ctx, a, "dev.ready", "")
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		a.Request(short, "dev.silent", nil) // both sides stop at the same moment: either may be first
		select {
		case err := <-ended:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the handler was not told that nobody waits any more")
		}
	})
}

func TestRefusesTooLargeMessages(t *testing.T) {
	inAllSettings(t, func(t *testing.T, ctx context.Context, a, b *bus.Bus) {
		large := make([]byte, a.MaxPayload()+1)
		if err := a.Publish("wake", large); !errors.Is(err, bus.ErrTooLarge) {
			t.Errorf("publish: got %v", err)
		}
		if _, err := a.Request(ctx, "dev.cam", large); !errors.Is(err, bus.ErrTooLarge) {
			t.Errorf("request: got %v", err)
		}
		must[func()](t)(b.Answer("dev.large", func(_ context.Context, data []byte) []byte {
			return bytes.Repeat(data, a.MaxPayload()+1)
		}))
		answered(t, ctx, a, "dev.large", "")
		if _, err := a.Request(ctx, "dev.large", []byte("x")); !errors.Is(err, bus.ErrTooLarge) {
			t.Errorf("answer: got %v", err)
		}
	})
}

func TestRefusesWhatIsNoSubject(t *testing.T) {
	b := open(t, bus.Config{Name: "a"})
	for _, subject := range []string{"", ".", "a.", ".a", "a..b", "a b", "a\r\nPUB x 0", "dev.*", "dev.>", "a\x00"} {
		if err := b.Publish(subject, nil); err == nil {
			t.Errorf("publishes to %q", subject)
		}
		if _, err := b.Request(t.Context(), subject, nil); err == nil {
			t.Errorf("requests %q", subject)
		}
		if _, err := b.Subscribe(subject, func([]byte) {}); err == nil {
			t.Errorf("subscribes to %q", subject)
		}
		if _, err := b.Answer(subject, echo("a")); err == nil {
			t.Errorf("answers %q", subject)
		}
	}
}

func TestTwentyThousandAnswersAreCheap(t *testing.T) {
	const devices = 20_000
	inAllSettings(t, func(t *testing.T, ctx context.Context, a, b *bus.Bus) {
		must[func()](t)(b.Answer("dev.first", echo("b")))
		answered(t, ctx, a, "dev.first", "")
		goroutines, memory := runtime.NumGoroutine(), heap()
		handler := echo("b")
		for i := range devices {
			must[func()](t)(b.Answer(fmt.Sprintf("dev.%d", i), handler))
		}
		answered(t, ctx, a, fmt.Sprintf("dev.%d", devices-1), "")
		each := (int64(heap()) - int64(memory)) / devices
		t.Logf("%d bytes per subscription, in this process", each)
		if each > 8<<10 {
			t.Errorf("a subscription takes %d bytes", each)
		}
		if more := runtime.NumGoroutine() - goroutines; more > 50 {
			t.Errorf("%d more goroutines", more)
		}
		for i := range devices {
			if i%20 != 0 {
				continue
			}
			if got := string(must[[]byte](t)(a.Request(ctx, fmt.Sprintf("dev.%d", i), []byte("x")))); got != "b:x" {
				t.Fatalf("device %d: got %q", i, got)
			}
		}
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func TestAnswersBusyWhenTooManyRequestsRun(t *testing.T) {
	b := open(t, bus.Config{Name: "a"})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	release := make(chan struct{})
	must[func()](t)(b.Answer("dev.slow", func(context.Context, []byte) []byte { <-release; return nil }))
	answers := make(chan error, 6000)
	for range cap(answers) {
		go func() {
			_, err := b.Request(ctx, "dev.slow", nil)
			answers <- err
		}()
	}
	if err := <-answers; !errors.Is(err, bus.ErrBusy) {
		t.Errorf("the first to be answered got %v, want ErrBusy", err)
	}
	close(release)
	for range cap(answers) - 1 {
		if err := <-answers; err != nil && !errors.Is(err, bus.ErrBusy) {
			t.Fatal(err)
		}
	}
}

func TestCloseEndsAllGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("open and close", func(t *testing.T) {
		inAllSettings(t, func(t *testing.T, ctx context.Context, a, b *bus.Bus) {
			must[func()](t)(b.Subscribe("wake", func([]byte) {}))
			must[func()](t)(b.Answer("dev.cam", echo("b")))
			answered(t, ctx, a, "dev.cam", "")
		})
	})
	deadline := time.Now().Add(5 * time.Second) // NATS ends a few of its own a moment later
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(time.Millisecond)
	}
}

func TestCloseLetsRequestsFinish(t *testing.T) {
	inAllSettings(t, func(t *testing.T, ctx context.Context, a, b *bus.Bus) {
		if a == b {
			return // with the only node, the asker is closed too
		}
		started := make(chan struct{})
		release := make(chan struct{})
		must[func()](t)(b.Answer("dev.ready", echo("b")))
		must[func()](t)(b.Answer("dev.cam", func(context.Context, []byte) []byte {
			close(started)
			<-release
			return []byte("done")
		}))
		answered(t, ctx, a, "dev.ready", "")
		answer := make(chan string, 1)
		go func() {
			data, err := a.Request(ctx, "dev.cam", nil)
			answer <- fmt.Sprint(string(data), err)
		}()
		<-started
		closed := make(chan error, 1)
		go func() { closed <- b.Close() }()
		silent(t, ctx, a, "dev.ready") // b takes no more
		close(release)
		if got := <-answer; got != "done<nil>" {
			t.Errorf("got %q", got)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

func TestClosedBusSaysSo(t *testing.T) {
	b := open(t, bus.Config{Name: "a"})
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Publish("wake", nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("publish: got %v", err)
	}
	if _, err := b.Subscribe("wake", func([]byte) {}); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("subscribe: got %v", err)
	}
	if _, err := b.Answer("dev.cam", echo("a")); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("answer: got %v", err)
	}
}

func TestComesBackAfterTheExternalServerDid(t *testing.T) {
	server := bustest.External(t)
	b := open(t, bus.Config{Name: "a", URL: server.URL})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must[func()](t)(b.Answer("dev.cam", echo("a")))
	answered(t, ctx, b, "dev.cam", "")
	server.Stop(t)
	for b.Connected() {
		time.Sleep(time.Millisecond)
	}
	if _, err := b.Request(ctx, "dev.cam", nil); !errors.Is(err, bus.ErrDisconnected) {
		t.Errorf("request without a server: got %v", err)
	}
	if err := b.Publish("wake", nil); !errors.Is(err, bus.ErrDisconnected) {
		t.Errorf("publish without a server: got %v", err)
	}
	server.Start(t)
	for !b.Connected() {
		if ctx.Err() != nil {
			t.Fatal("it does not come back")
		}
		time.Sleep(10 * time.Millisecond)
	}
	answered(t, ctx, b, "dev.cam", "")
}

func TestRefusesAForeignServerOnTheRoute(t *testing.T) {
	a := open(t, bus.Config{Name: "a", Listen: "127.0.0.1:0", RouteSecret: "of the route"})
	stranger := open(t, bus.Config{Name: "x", Routes: []string{a.RouteAddr()}, RouteSecret: "guessed"})
	friend := open(t, bus.Config{Name: "b", Routes: []string{a.RouteAddr()}, RouteSecret: "of the route"})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must[func()](t)(a.Answer("dev.cam", echo("a")))
	answered(t, ctx, friend, "dev.cam", "") // so a route takes no longer than this
	if _, err := stranger.Request(ctx, "dev.cam", nil); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("stranger got %v", err)
	}
}

func TestRefusesBadConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		bus.Config
	}{
		{"routes without a secret", bus.Config{Listen: "127.0.0.1:0"}},
		{"external and routes", bus.Config{URL: "nats://127.0.0.1:1", Routes: []string{"127.0.0.1:1"}}},
		{"listen without a port", bus.Config{Listen: "localhost", RouteSecret: "hush-hush"}},
		{"route without a port", bus.Config{Routes: []string{"localhost"}, RouteSecret: "hush-hush"}},
		{"malformed URL", bus.Config{URL: "nats://u:hush-hush@[::1"}},
		{"nobody there", bus.Config{URL: "nats://u:hush-hush@127.0.0.1:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			b, err := bus.Open(ctx, c.Config)
			if err == nil {
				b.Close()
				t.Fatal("it opens")
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestRefusesAWrongPasswordAtOnceAndKeepsItSecret(t *testing.T) {
	server := bustest.External(t)
	began := time.Now()
	var log strings.Builder
	_, err := bus.Open(t.Context(), bus.Config{URL: strings.Replace(server.URL, "for-tests", "hush-hush", 1),
		Log: slog.New(slog.NewTextHandler(io.Writer(&log), nil))})
	if err == nil || time.Since(began) > 5*time.Second {
		t.Fatalf("got %v after %v", err, time.Since(began))
	}
	if strings.Contains(err.Error()+log.String(), "hush") {
		t.Errorf("the password shows: %v %s", err, log.String())
	}
}

func BenchmarkRequest(b *testing.B) {
	node := open(b, bus.Config{Name: "a"})
	must[func()](b)(node.Answer("dev.cam", echo("a")))
	data := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := node.Request(b.Context(), "dev.cam", data); err != nil {
			b.Fatal(err)
		}
	}
}
