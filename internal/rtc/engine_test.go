package rtc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

const patient = 5 * time.Second

func serve(t *testing.T) *Engine {
	t.Helper()
	e := New(Config{UDP: "127.0.0.1:0", TCP: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err := e.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patient):
			t.Error("Serve did not return")
		}
	})
	return e
}

// dial opens a connection to the engine over "udp" or "tcp".
func dial(t *testing.T, e *Engine, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, e.Addr(network))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patient))
	return c
}

func localAddr(c net.Conn) netip.AddrPort {
	if u, ok := c.LocalAddr().(*net.UDPAddr); ok {
		return u.AddrPort()
	}
	return c.LocalAddr().(*net.TCPAddr).AddrPort()
}

func TestTellsTheSourceAddress(t *testing.T) {
	e := serve(t)
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			c := dial(t, e, network)
			for range 3 {
				ask := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewSoftware("test"), stun.Fingerprint)
				if _, err := c.Write(ask.Raw); err != nil {
					t.Fatal(err)
				}
				got := read(t, c)
				var mapped stun.XORMappedAddress
				if err := mapped.GetFrom(got); err != nil {
					t.Fatal(err)
				}
				ip, _ := netip.AddrFromSlice(mapped.IP)
				if at := netip.AddrPortFrom(ip.Unmap(), uint16(mapped.Port)); at != localAddr(c) {
					t.Errorf("told %v, is %v", at, localAddr(c))
				}
				if got.TransactionID != ask.TransactionID || got.Type != stun.BindingSuccess || len(got.Raw) != 32 {
					t.Errorf("answer %v, %d bytes", got, len(got.Raw))
				}
			}
		})
	}
}

func read(t *testing.T, c net.Conn) *stun.Message {
	t.Helper()
	b := make([]byte, maxPacket)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	m := stun.New()
	if err := stun.Decode(b[:n], m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNamesAttributesItDoesNotUnderstand(t *testing.T) {
	c := dial(t, serve(t), "udp")
	ask := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.RawAttribute{Type: 0x0003, Value: make([]byte, 4)})
	c.Write(ask.Raw)
	got := read(t, c)
	var code stun.ErrorCodeAttribute
	var names stun.UnknownAttributes
	if err := errors.Join(code.GetFrom(got), names.GetFrom(got)); err != nil {
		t.Fatal(err)
	}
	if code.Code != stun.CodeUnknownAttribute || len(names) != 1 || names[0] != 0x0003 {
		t.Errorf("answer %v %v", code, names)
	}
}

// strangePackets are none of them Binding requests.
func strangePackets() map[string][]byte {
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	changed := func(i int, b byte) []byte {
		c := append([]byte(nil), request...)
		c[i] = b
		return c
	}
	return map[string][]byte{
		"a response":         stun.MustBuild(stun.TransactionID, stun.BindingSuccess).Raw,
		"an indication":      stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication)).Raw,
		"an allocation":      stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)).Raw,
		"no cookie":          changed(4, 0),
		"a wrong length":     changed(3, 4),
		"half a header":      request[:10],
		"a cut attribute":    append(changed(3, 4), 0, 6, 0, 9),
		"random bytes":       []byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
		"a DTLS ClientHello": append([]byte{22, 254, 253}, make([]byte, 60)...),
	}
}

func TestAnswersNothingElse(t *testing.T) {
	e := serve(t)
	for name, packet := range strangePackets() {
		t.Run(name, func(t *testing.T) {
			c := dial(t, e, "udp")
			c.Write(packet)
			ask := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
			c.Write(ask.Raw)
			if got := read(t, c); got.TransactionID != ask.TransactionID {
				t.Errorf("was answered: %v", got)
			}
		})
	}
}

func TestClosesConnectionsThatSpeakSomethingElse(t *testing.T) {
	c := dial(t, serve(t), "tcp")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("still open")
	}
}

func TestLimitsConnectionsOfOneSource(t *testing.T) {
	e := serve(t)
	for range maxPerSource {
		c := dial(t, e, "tcp")
		c.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
		read(t, c)
	}
	c := dial(t, e, "tcp")
	c.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	if n, err := c.Read(make([]byte, 100)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestMetersEachSource(t *testing.T) {
	now := time.Unix(1700000000, 0)
	m := newMeter(func() time.Time { return now })
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for range answersPerSecond {
		if !m.allow(a) {
			t.Fatal("refused too early")
		}
	}
	if m.allow(a) {
		t.Error("never refused")
	}
	if !m.allow(b) {
		t.Error("a neighbour was refused")
	}
	now = now.Add(time.Second)
	if !m.allow(a) {
		t.Error("still refused a second later")
	}
	for i := range maxSources + 10 {
		m.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(m.seen) > maxSources {
		t.Errorf("%d sources remembered", len(m.seen))
	}
}

func TestMapsIPv6(t *testing.T) {
	ask := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	from := netip.MustParseAddrPort("[2001:db8::7]:4242")
	out, ok := bindingAnswer(nil, ask.Raw, from)
	got := stun.New()
	if !ok || stun.Decode(out, got) != nil {
		t.Fatalf("answer %x, %v", out, ok)
	}
	var mapped stun.XORMappedAddress
	if err := mapped.GetFrom(got); err != nil || mapped.Port != 4242 || mapped.IP.String() != "2001:db8::7" {
		t.Errorf("mapped %v, %v", mapped, err)
	}
}

func FuzzBindingAnswer(f *testing.F) {
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewSoftware("x"), stun.Fingerprint).Raw)
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.RawAttribute{Type: 3, Value: []byte{0, 0, 0, 6}}).Raw)
	for _, p := range strangePackets() {
		f.Add(p)
	}
	from := netip.MustParseAddrPort("203.0.113.9:4242")
	f.Fuzz(func(t *testing.T, packet []byte) {
		out, ok := bindingAnswer(nil, packet, from)
		if !ok {
			return
		}
		if len(out) > maxAnswer {
			t.Errorf("%d bytes answered to %d", len(out), len(packet))
		}
		m := stun.New()
		if err := stun.Decode(out, m); err != nil || m.Type.Class != stun.ClassSuccessResponse && m.Type.Class != stun.ClassErrorResponse {
			t.Errorf("answered %x: %v", out, err)
		}
	})
}
