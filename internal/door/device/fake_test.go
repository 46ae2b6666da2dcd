package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/turnpike-rtc/turnpike/internal/bus"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/door/doortest"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

const patient = 10 * time.Second

const (
	offerText = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:clientfrag\r\n" +
		"a=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\na=fingerprint:sha-256 " + fingerprintText + "\r\na=setup:actpass\r\n" +
		"a=recvonly\r\na=rtcp-mux\r\na=rtpmap:102 H264/90000\r\n"
	answerText = "v=0\r\no=- 2 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:devicefrag\r\n" +
		"a=ice-pwd:bbbbbbbbbbbbbbbbbbbbbbbb\r\na=fingerprint:sha-256 " + fingerprintText + "\r\na=setup:active\r\n" +
		"a=sendonly\r\na=rtcp-mux\r\na=rtpmap:102 H264/90000\r\n"
	fingerprintText = "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"
	fragmentText    = "a=ice-ufrag:clientfrag\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\nm=video 9 UDP/TLS/RTP/SAVPF 102\r\na=mid:0\r\n" +
		"a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\na=end-of-candidates\r\n"
)

// newDoor builds the door on a house.
func newDoor(t testing.TB, h *doortest.House, change ...func(*Config)) *Door {
	t.Helper()
	cfg := DefaultConfig()
	for _, f := range change {
		f(&cfg)
	}
	d, err := New(cfg, h.Gate, Deps{
		Authority: h.Authority, Presence: h.Store, Records: h.Store, Changes: h.Authority, Bus: h.Bus,
		NobodyThere: bus.ErrNoResponders, Node: h.Name, Now: time.Now, Log: h.Log, MediaUDPPort: "5082",
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// site is one node with the door open.
type site struct {
	*doortest.House
	door *Door
	url  string
	stop func()
}

func newSite(t testing.TB, change ...func(*Config)) *site {
	t.Helper()
	h := doortest.Build(t, storetest.SQLite(t), bus.Config{Name: "n1"})
	return openSite(t, h, change...)
}

func openSite(t testing.TB, h *doortest.House, change ...func(*Config)) *site {
	t.Helper()
	d := newDoor(t, h, change...)
	url, stop := h.Serve(t, d)
	return &site{h, d, url, stop}
}

// cam is a device of the test: it answers offers as its answer function says.
type cam struct {
	ws      *websocket.Conn
	welcome *signal.Welcome
	answer  func(*signal.Offer) signal.Message // nil answer: silence
	done    chan struct{}

	mu    sync.Mutex
	got   []signal.Message
	err   error // why the connection ended
	fresh chan struct{}
}

// start is how a cam starts.
type start struct {
	id, secret, client string
	sessions           []string
	answer             func(*signal.Offer) signal.Message
}

func yes(o *signal.Offer) signal.Message { return signal.Answer{Session: o.Session, SDP: answerText} }

// dial brings a device online. The error is the server's refusal.
func dial(ctx context.Context, url string, s start) (*cam, error) {
	if s.id == "" {
		s.id = doortest.Cam
	}
	if s.secret == "" {
		s.secret = doortest.DeviceSecret
	}
	if s.client == "" {
		s.client = "00:11:22:33:44:55"
	}
	if s.answer == nil {
		s.answer = yes
	}
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url+"/v1/device", &websocket.DialOptions{
		Subprotocols: []string{signal.Subprotocol}, HTTPClient: doortest.Client(),
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(signal.MaxMessage)
	c := &cam{ws: ws, answer: s.answer, done: make(chan struct{}), fresh: make(chan struct{}, 1)}
	challenge, err := readAs[*signal.Challenge](ctx, ws)
	if err != nil {
		return nil, err
	}
	nonce := token.NewNonce()
	c.send(ctx, signal.Hello{
		DeviceID: s.id, ClientID: s.client, Nonce: nonce, Version: "test/1", Sessions: s.sessions,
		Proof: token.DeviceProof(s.secret, challenge.Nonce, nonce, s.id, s.client),
	})
	if c.welcome, err = readAs[*signal.Welcome](ctx, ws); err != nil {
		ws.CloseNow()
		return nil, err
	}
	if c.welcome.Proof != token.ServerProof(s.secret, nonce, challenge.Nonce) {
		return nil, errors.New("the server is not genuine")
	}
	go c.read()
	return c, nil
}

func readAs[M signal.Message](ctx context.Context, ws *websocket.Conn) (m M, err error) {
	_, b, err := ws.Read(ctx)
	if err != nil {
		return m, err
	}
	got, err := signal.Decode(b)
	if err != nil {
		return m, err
	}
	m, ok := got.(M)
	if !ok {
		return m, fmt.Errorf("got %s", got.Type())
	}
	return m, nil
}

func (c *cam) send(ctx context.Context, m signal.Message) {
	if b, err := signal.Encode(m); err == nil {
		c.ws.Write(ctx, websocket.MessageText, b)
	}
}

func (c *cam) read() {
	defer close(c.done)
	ctx := context.Background()
	for {
		_, b, err := c.ws.Read(ctx)
		if err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			c.ws.CloseNow()
			return
		}
		m, err := signal.Decode(b)
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case *signal.Offer:
			if a := c.answer(m); a != nil {
				c.send(ctx, a)
			}
		case *signal.End:
			c.send(ctx, signal.Closed{Session: m.Session, Reason: "ended"})
		}
		c.mu.Lock()
		c.got = append(c.got, m)
		c.mu.Unlock()
		select {
		case c.fresh <- struct{}{}:
		default:
		}
	}
}

// await returns the first message that fits, or nil when none comes in time.
func await[M signal.Message](c *cam, fits func(M) bool) (found M) {
	doortest.Eventually(func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, m := range c.got {
			if m, ok := m.(M); ok && (fits == nil || fits(m)) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// closeCode waits for the end of the connection.
func (c *cam) closeCode() websocket.StatusCode {
	select {
	case <-c.done:
	case <-time.After(patient):
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return websocket.CloseStatus(c.err)
}

func (c *cam) hangUp() {
	c.ws.CloseNow()
	<-c.done
}

// online brings the usual device online, or fails the test.
func (s *site) online(t testing.TB, how start) *cam {
	t.Helper()
	c, err := dial(t.Context(), s.url, how)
	if err != nil {
		t.Fatalf("device is refused: %v", err)
	}
	t.Cleanup(c.hangUp)
	return c
}

// answer is an HTTP answer, read.
type answer struct {
	*http.Response
	text string
}

// code is the problem's code.
func (a answer) code() string {
	_, rest, _ := strings.Cut(a.text, `"code":"`)
	code, _, _ := strings.Cut(rest, `"`)
	return code
}

func request(ctx context.Context, method, url, body string, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := doortest.Client().Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res, string(b)}, err
}

func ring(t testing.TB, method, url, body string, header ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patient)
	defer cancel()
	a, err := request(ctx, method, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// post is a client's attempt to connect to the usual device.
func (s *site) post(t testing.TB, credential string) answer {
	t.Helper()
	return ring(t, "POST", s.url+"/whep/device/"+doortest.Cam, offerText,
		"Content-Type", "application/sdp", "Authorization", "Bearer "+credential)
}

// connect lets a client in, or fails the test. It returns the session's address.
func (s *site) connect(t testing.TB, subject string) (address string, a answer) {
	t.Helper()
	raw, _ := s.Token(t, subject, doortest.Cam)
	a = s.post(t, raw)
	if a.StatusCode != http.StatusCreated {
		t.Fatalf("client is refused: %d %s", a.StatusCode, a.text)
	}
	return s.url + a.Header.Get("Location"), a
}

func sessionID(address string) string { return address[strings.LastIndexByte(address, '/')+1:] }

// TestPassesTheExam is what every door must pass.
func TestPassesTheExam(t *testing.T) {
	var camera *cam
	doortest.Run(t, doortest.Candidate{
		Open: func(t *testing.T, h *doortest.House) door.WebDoor { return newDoor(t, h) },
		Prepare: func(ctx context.Context, t *testing.T, _ *doortest.House, url string) {
			var err error
			if camera, err = dial(ctx, url, start{}); err != nil {
				t.Fatal(err)
			}
		},
		Enter: func(ctx context.Context, url, resource, credential string) error {
			id := strings.TrimPrefix(resource, "device:")
			a, err := request(ctx, "POST", url+"/whep/device/"+id, offerText,
				"Content-Type", "application/sdp", "Authorization", "Bearer "+credential)
			if err != nil {
				return err
			}
			if a.StatusCode != http.StatusCreated {
				return errors.New(a.text)
			}
			return camera.ended(ctx, sessionID(a.Header.Get("Location")))
		},
	})
}

// ended waits until the device is told to end the session.
func (c *cam) ended(ctx context.Context, id string) error {
	for {
		c.mu.Lock()
		for _, m := range c.got {
			if e, ok := m.(*signal.End); ok && e.Session == id {
				c.mu.Unlock()
				return errors.New("ended: " + e.Reason)
			}
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-c.fresh:
		case <-time.After(20 * time.Millisecond):
		}
	}
}
