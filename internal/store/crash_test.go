package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

// childVariable makes the test binary a server that admits until it is killed; its
// value is its place, in JSON.
const childVariable = "TURNPIKE_TEST_STORE_CHILD"

// place is where a store is.
type place struct{ DSN, Dir string }

// admitForever prints the id of each token once its admission is acknowledged.
func admitForever(config string) {
	var p place
	if err := json.Unmarshal([]byte(config), &p); err != nil {
		panic(err)
	}
	s, err := store.Open(context.Background(), store.Config{DSN: p.DSN, Dir: p.Dir, MasterKey: storetest.MasterKey()})
	if err != nil {
		panic(err)
	}
	var out sync.Mutex
	for i := range 16 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), i, n)
				if _, err := s.Admit(context.Background(), admission("s"+id, id, time.Now())); err != nil {
					return // the disk is gone
				}
				out.Lock()
				fmt.Println(id)
				out.Unlock()
			}
		}()
	}
	select {}
}

// child is a process that admits.
type child struct {
	*exec.Cmd
	mu    sync.Mutex // guards acked
	acked []string
	ended chan struct{} // closed when all its output is read
}

func startChild(t testing.TB, c store.Config) *child {
	t.Helper()
	config := value(json.Marshal(place{c.DSN, c.Dir}))(t)
	p := &child{Cmd: exec.Command(value(os.Executable())(t)), ended: make(chan struct{})}
	p.Env = append(os.Environ(), childVariable+"="+string(config))
	p.Stderr = os.Stderr
	out := value(p.StdoutPipe())(t)
	check(t, p.Start())
	go func() {
		defer close(p.ended)
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return // a line without its end was not acknowledged
			}
			p.mu.Lock()
			p.acked = append(p.acked, line[:len(line)-1])
			p.mu.Unlock()
		}
	}()
	return p
}

// await waits until so many admissions were acknowledged, and returns those so far.
func (p *child) await(t testing.TB, n int) []string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if acked := p.all(); len(acked) >= n {
			return acked
		}
	}
	t.Fatalf("only %d of %d admissions in a minute", len(p.all()), n)
	return nil
}

func (p *child) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.acked...)
}

// kill ends it as kill -9 does.
func (p *child) kill() {
	p.Process.Kill()
	<-p.ended
	p.Wait()
}

// noneIsGoodAgain presents every acknowledged token once more.
func noneIsGoodAgain(t *testing.T, s *store.Store, acked []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	race(64, func(i int) bool {
		for n := i; n < len(acked); n += 64 {
			_, err := s.Admit(ctx, admission("again"+acked[n], acked[n], start()))
			if !errors.Is(err, token.ErrSpent) {
				t.Errorf("token %q presented again: got %v", acked[n], err)
			}
			if e, err := s.Session(ctx, "s"+acked[n]); err != nil || e.TokenID != acked[n] {
				t.Errorf("acknowledged session %q is lost: %v", acked[n], err)
			}
		}
		return true
	})
}

func TestKilledServerForgetsNoAdmission(t *testing.T) {
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			check(t, value(store.Open(t.Context(), c))(t).Close())
			var acked []string
			for range 3 {
				p := startChild(t, c)
				p.await(t, 1000)
				p.kill()
				acked = append(acked, p.all()...)
			}
			t.Logf("%d admissions were acknowledged", len(acked))
			noneIsGoodAgain(t, storetest.Open(t, c), acked)
		})
	}
}
