package door

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// socketPair serves one address that hands its sockets to the test.
func socketPair(t *testing.T) (*Socket, *websocket.Conn) {
	t.Helper()
	got := make(chan *Socket, 1)
	w := serve(t, Config{HTTP: "127.0.0.1:0"}, func(w *Web) {
		w.Mux().HandleFunc("GET /socket", func(rw http.ResponseWriter, r *http.Request) {
			if s, err := AcceptSocket(rw, r, "test.v1", 1024); err == nil {
				got <- s
			}
		})
	})
	res, _ := get(t, "http://"+w.Addr("http")+"/socket")
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("without the subprotocol: %d", res.StatusCode)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+w.Addr("http")+"/socket", &websocket.DialOptions{Subprotocols: []string{"test.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	return <-got, c
}

func TestSocketCarriesTextBothWays(t *testing.T) {
	s, c := socketPair(t)
	defer s.Close(1000, "")
	long := strings.Repeat("x", 1024)
	for _, text := range []string{"short", long} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := s.ReadBy(time.Now().Add(patient))
		if err != nil || string(got) != text {
			t.Fatalf("server read %q, %v", got, err)
		}
		if err := s.Write(got); err != nil {
			t.Fatal(err)
		}
		if _, got, err = c.Read(t.Context()); err != nil || string(got) != text {
			t.Fatalf("client read %q, %v", got, err)
		}
	}
}

func TestSocketRefusesOversizeAndBinary(t *testing.T) {
	t.Run("oversize", func(t *testing.T) {
		s, c := socketPair(t)
		defer s.Close(1000, "")
		c.Write(t.Context(), websocket.MessageText, make([]byte, 1026))
		if _, err := s.ReadBy(time.Now().Add(patient)); err == nil {
			t.Error("read more than the limit")
		}
	})
	t.Run("binary", func(t *testing.T) {
		s, c := socketPair(t)
		defer s.Close(1000, "")
		c.Write(t.Context(), websocket.MessageBinary, []byte{1})
		if _, err := s.ReadBy(time.Now().Add(patient)); err != ErrNotText {
			t.Errorf("ReadBy: %v", err)
		}
	})
}

func TestSocketCloseReachesThePeerAndTheReader(t *testing.T) {
	s, c := socketPair(t)
	ended := make(chan error, 1)
	go func() { _, err := s.Read(); ended <- err }()
	go s.Close(4409, "replaced")
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != 4409 {
		t.Errorf("peer sees %v", err)
	}
	select {
	case <-ended:
	case <-time.After(patient):
		t.Error("Read is still waiting")
	}
}

func TestSocketCloseDoesNotWaitForASilentPeer(t *testing.T) {
	s, _ := socketPair(t) // nobody reads on the other side
	begin := time.Now()
	s.Close(4401, "refused")
	if took := time.Since(begin); took > 3*closePatience {
		t.Errorf("took %v", took)
	}
}

func TestSocketGivesUpOnAPeerThatSaysNothing(t *testing.T) {
	s, _ := socketPair(t)
	defer s.Close(4408, "timeout")
	if _, err := s.ReadBy(time.Now().Add(20 * time.Millisecond)); err == nil {
		t.Error("read something")
	}
}
