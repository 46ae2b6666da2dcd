package device

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/bus"
	"github.com/turnpike-rtc/turnpike/internal/door/doortest"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

// memoryPerDevice is what an idle device may cost in this process: the door, the
// HTTP server, the bus, and the test's own end of the connection, which has a
// socket and nothing else.
const memoryPerDevice = 20 << 10

// TestIdleDevicesAreCheap brings 2,000 devices online, or as many as the variable
// TURNPIKE_TEST_DEVICES says, and prints what each costs.
func TestIdleDevicesAreCheap(t *testing.T) {
	many := 2000
	if text := os.Getenv("TURNPIKE_TEST_DEVICES"); text != "" {
		var err error
		if many, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	h := doortest.Build(t, storetest.SQLite(t), bus.Config{Name: "n1"})
	s := openSite(t, h)
	for i := range many {
		d := token.Device{ID: deviceName(i), App: doortest.App, Secret: doortest.DeviceSecret, Created: time.Now()}
		if err := s.Store.AddDevice(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	before, threads := memory(), runtime.NumGoroutine()
	sockets := startAll(t, strings.TrimPrefix(s.url, "http://"), many)
	after := memory()
	t.Logf("%d devices: %d bytes and %.2f goroutines each; heap %d, stacks %d", many,
		(after.total()-before.total())/int64(many), float64(runtime.NumGoroutine()-threads)/float64(many),
		(after.heap-before.heap)/int64(many), (after.stacks-before.stacks)/int64(many))
	if each := (after.total() - before.total()) / int64(many); each > memoryPerDevice {
		t.Errorf("an idle device costs %d bytes, at most %d", each, memoryPerDevice)
	}
	s.door.mu.Lock()
	online := len(s.door.online)
	s.door.mu.Unlock()
	if online != many {
		t.Errorf("%d of %d are online", online, many)
	}
	for _, c := range sockets {
		c.Close()
	}
}

func deviceName(i int) string { return fmt.Sprintf("D%07d", i) }

type usage struct{ heap, stacks int64 }

func (u usage) total() int64 { return u.heap + u.stacks }

// memory is what the process uses once the collector has been everywhere.
func memory() usage {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{int64(m.HeapInuse), int64(m.StackInuse)}
}

func startAll(t *testing.T, addr string, many int) []net.Conn {
	t.Helper()
	sockets := make([]net.Conn, many)
	failed := make(chan error, many)
	var working sync.WaitGroup
	next := make(chan int)
	for range 32 {
		working.Go(func() {
			for i := range next {
				var err error
				if sockets[i], err = startBare(addr, deviceName(i)); err != nil {
					failed <- err
				}
			}
		})
	}
	for i := range many {
		next <- i
	}
	close(next)
	working.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	return sockets
}

// startBare brings a device online over a socket that costs this process as
// little as can be: the WebSocket is spoken by hand.
func startBare(addr, id string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "GET /v1/device HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", signal.Subprotocol)
	r := bufio.NewReader(c)
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("no WebSocket: %v", err)
	}
	m, err := readFrame(r)
	if err != nil {
		return nil, err
	}
	challenge := m.(*signal.Challenge)
	nonce := token.NewNonce()
	hello, err := signal.Encode(signal.Hello{DeviceID: id, ClientID: id, Nonce: nonce,
		Proof: token.DeviceProof(doortest.DeviceSecret, challenge.Nonce, nonce, id, id)})
	if err != nil {
		return nil, err
	}
	frame := append([]byte{0x81, 0x80 | 126}, byte(len(hello)>>8), byte(len(hello)), 0, 0, 0, 0) // mask of zeros
	if _, err := c.Write(append(frame, hello...)); err != nil {
		return nil, err
	}
	if m, err = readFrame(r); err != nil {
		return nil, err
	}
	if _, ok := m.(*signal.Welcome); !ok {
		return nil, fmt.Errorf("got %s", m.Type())
	}
	return c, c.SetDeadline(time.Time{})
}

// readFrame reads one short text frame (RFC 6455, 5.2).
func readFrame(r *bufio.Reader) (signal.Message, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int(head[1])
	if size == 126 {
		var long [2]byte
		if _, err := io.ReadFull(r, long[:]); err != nil {
			return nil, err
		}
		size = int(binary.BigEndian.Uint16(long[:]))
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if head[0] == 0x88 {
		return nil, fmt.Errorf("closed: %q", body)
	}
	return signal.Decode(body)
}
