// Package rendezvoustest is a small server for the tests of the device and client
// SDKs: it speaks protocol/device.md on real sockets, admits everyone who presents the
// token it was told, and lets tests do to the parties what a server and a network can
// do. It keeps no records and decides nothing else.
package rendezvoustest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

// License and Token are what the server accepts.
const (
	DeviceID = "AABBCCDDEEFF"
	Secret   = "a-secret-of-the-test-device"
	License  = DeviceID + "," + Secret
	Token    = "v1.test.token"
)

// Server is the rendezvous. Fields are set before it is used.
type Server struct {
	URL       string
	Keepalive int                 // seconds; 0 means 25
	Lease     int                 // seconds; 0 means none
	ClientID  string              // the one that is bound; empty accepts any
	BadProof  bool                // answer with a wrong proof
	Online    chan *Device        // each device that came online
	Reports   chan signal.Message // Connected and Closed, in order
	Trickled  chan string         // the first fragments clients trickled, as many as it holds
	http      *httptest.Server
	t         testing.TB

	mu       sync.Mutex // guards what follows
	devices  int        // epochs handed out
	current  *Device
	sessions int
	offer    func(sdp string) string
	answer   func(sdp string) string
	tickets  map[string]bool
	refuse   *httpProblem
	deleted  []string
}

type httpProblem struct {
	status int
	code   string
}

// Device is one connection of a device.
type Device struct {
	Hello signal.Hello
	conn  *websocket.Conn

	mu      sync.Mutex // guards answers
	answers map[string]chan signal.Message
}

// Start runs a server until the test ends.
func Start(t testing.TB) *Server {
	s := &Server{
		Online: make(chan *Device, 64), Reports: make(chan signal.Message, 4096), Trickled: make(chan string, 64),
		t: t, tickets: make(map[string]bool),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/device", s.device)
	mux.HandleFunc("POST /whep/device/{id}", s.connect)
	mux.HandleFunc("POST /whep/session/{id}", s.renew)
	mux.HandleFunc("PATCH /whep/session/{id}", s.trickle)
	mux.HandleFunc("DELETE /whep/session/{id}", s.remove)
	s.http = httptest.NewServer(mux)
	s.URL = s.http.URL
	t.Cleanup(func() {
		s.Drop()
		s.http.Close()
	})
	return s
}

// device is a device's WebSocket (section 1).
func (s *Server) device(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	d := s.open(r.Context(), conn)
	if d == nil {
		return
	}
	s.mu.Lock()
	old := s.current
	s.current = d
	s.mu.Unlock()
	if old != nil {
		old.conn.Close(signal.CloseReplaced, "replaced")
	}
	s.Online <- d
	for {
		_, data, err := conn.Read(r.Context())
		if err != nil {
			break
		}
		m, err := signal.Decode(data)
		if err != nil {
			s.t.Errorf("device sent a bad message: %v", err)
			break
		}
		s.receive(d, m)
	}
	s.mu.Lock()
	if s.current == d {
		s.current = nil
	}
	s.mu.Unlock()
}

// open is challenge, hello, welcome.
func (s *Server) open(ctx context.Context, conn *websocket.Conn) *Device {
	nonce := token.NewSecret()
	if write(ctx, conn, signal.Challenge{Nonce: nonce, Time: time.Now().Unix()}) != nil {
		return nil
	}
	_, data, err := conn.Read(ctx)
	if err != nil {
		return nil
	}
	m, err := signal.Decode(data)
	hello, ok := m.(*signal.Hello)
	switch {
	case err != nil || !ok:
		conn.Close(signal.CloseMalformed, "malformed")
		return nil
	case hello.DeviceID != DeviceID || hello.Proof != token.DeviceProof(Secret, nonce, hello.Nonce, DeviceID, hello.ClientID):
		conn.Close(signal.CloseRefused, "refused")
		return nil
	case s.ClientID != "" && s.ClientID != hello.ClientID:
		conn.Close(signal.CloseConflict, "client_id_conflict")
		return nil
	}
	proof := token.ServerProof(Secret, hello.Nonce, nonce)
	if s.BadProof {
		proof = token.ServerProof(Secret+"x", hello.Nonce, nonce)
	}
	s.mu.Lock()
	s.devices++
	welcome := signal.Welcome{Proof: proof, Epoch: int64(s.devices), Keepalive: max(s.Keepalive, 1), SessionLease: s.Lease}
	s.mu.Unlock()
	if s.Keepalive == 0 {
		welcome.Keepalive = 25
	}
	if write(ctx, conn, welcome) != nil {
		return nil
	}
	return &Device{Hello: *hello, conn: conn, answers: make(map[string]chan signal.Message)}
}

func (s *Server) receive(d *Device, m signal.Message) {
	var session string
	switch m := m.(type) {
	case *signal.Answer:
		session = m.Session
	case *signal.Refuse:
		session = m.Session
	case *signal.Connected, *signal.Closed:
		s.Reports <- m
		return
	default:
		return
	}
	d.mu.Lock()
	answer := d.answers[session]
	d.mu.Unlock()
	if answer != nil {
		answer <- m
	}
}

func write(ctx context.Context, conn *websocket.Conn, m signal.Message) error {
	data, err := signal.Encode(m)
	if err != nil {
		return err
	}
	return conn.Write(ctx, websocket.MessageText, data)
}

// Tell sends a message to the device that is online.
func (s *Server) Tell(m signal.Message) {
	s.t.Helper()
	s.mu.Lock()
	d := s.current
	s.mu.Unlock()
	if d == nil {
		s.t.Fatal("no device is online")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := write(ctx, d.conn, m); err != nil {
		s.t.Errorf("cannot tell device: %v", err)
	}
}

// Raw sends bytes to the device that is online.
func (s *Server) Raw(data string) {
	s.mu.Lock()
	d := s.current
	s.mu.Unlock()
	if d != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := d.conn.Write(ctx, websocket.MessageText, []byte(data)); err != nil {
			s.t.Errorf("cannot write to device: %v", err)
		}
	}
}

// Drop cuts the device's connection without a word.
func (s *Server) Drop() {
	s.mu.Lock()
	d := s.current
	s.current = nil
	s.mu.Unlock()
	if d != nil {
		d.conn.CloseNow()
	}
}

// CloseDevice closes the device's connection with a code.
func (s *Server) CloseDevice(code int, reason string) {
	s.mu.Lock()
	d := s.current
	s.current = nil
	s.mu.Unlock()
	if d != nil {
		d.conn.Close(websocket.StatusCode(code), reason)
	}
}

// Refuse makes every further connect fail with a problem; status 0 ends that.
func (s *Server) Refuse(status int, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = nil
	if status != 0 {
		s.refuse = &httpProblem{status, code}
	}
}

// Rewrite changes the SDP of further offers and answers on their way. Either function
// may be nil.
func (s *Server) Rewrite(offer, answer func(sdp string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offer, s.answer = offer, answer
}

// Deleted lists the sessions clients have deleted.
func (s *Server) Deleted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.deleted...)
}

// Sessions says how many sessions were opened.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

func (p *httpProblem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.status)
	fmt.Fprintf(w, `{"type":"about:blank","status":%d,"code":%q,"detail":"said by the test"}`, p.status, p.code)
}

// connect is the WHEP POST (section 2).
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, signal.MaxSDP+1))
	if err != nil || r.Header.Get("Content-Type") != "application/sdp" {
		(&httpProblem{400, "malformed_sdp"}).write(w)
		return
	}
	credential := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	no, d, changeOffer, changeAnswer := s.refuse, s.current, s.offer, s.answer
	known := credential == Token || s.tickets[credential]
	s.sessions++
	session := fmt.Sprintf("session-%d", s.sessions)
	s.mu.Unlock()
	switch {
	case no != nil:
	case !known:
		no = &httpProblem{401, "token_refused"}
	case d == nil || r.PathValue("id") != DeviceID:
		no = &httpProblem{404, "device_offline"}
	}
	if no != nil {
		no.write(w)
		return
	}
	offer := signal.Offer{Session: session, SDP: rewrite(changeOffer, string(body)), Subject: "user-17", Streams: streams(r)}
	answer, no := s.ask(r.Context(), d, offer)
	if no != nil {
		no.write(w)
		return
	}
	w.Header().Set("Content-Type", "application/sdp")
	w.Header().Set("Location", "/whep/session/"+session)
	s.ticket(w)
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, rewrite(changeAnswer, answer))
}

func rewrite(f func(string) string, sdp string) string {
	if f == nil {
		return sdp
	}
	return f(sdp)
}

func streams(r *http.Request) *signal.Wanted {
	var w signal.Wanted
	for _, v := range r.URL.Query()["video"] {
		n, _ := strconv.Atoi(v)
		w.Video = append(w.Video, n)
	}
	for _, v := range r.URL.Query()["audio"] {
		n, _ := strconv.Atoi(v)
		w.Audio = append(w.Audio, n)
	}
	return &w
}

func (s *Server) ticket(w http.ResponseWriter) {
	ticket := token.NewTicket()
	s.mu.Lock()
	s.tickets[ticket] = true
	s.mu.Unlock()
	w.Header().Set("Turnpike-Resume-Ticket", ticket)
	w.Header().Set("Turnpike-Resume-Expires", "120")
}

// ask passes an offer to the device and waits for what it says.
func (s *Server) ask(ctx context.Context, d *Device, o signal.Offer) (string, *httpProblem) {
	answer := make(chan signal.Message, 1)
	d.mu.Lock()
	d.answers[o.Session] = answer
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := write(ctx, d.conn, o); err != nil {
		return "", &httpProblem{404, "device_offline"}
	}
	select {
	case m := <-answer:
		if a, ok := m.(*signal.Answer); ok {
			return a.SDP, nil
		}
		return "", &httpProblem{502, "device_refused"}
	case <-ctx.Done():
		return "", &httpProblem{504, "device_timeout"}
	}
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	known := s.tickets[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	s.mu.Unlock()
	if !known {
		(&httpProblem{401, "token_refused"}).write(w)
		return
	}
	s.ticket(w)
}

func (s *Server) trickle(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, signal.MaxFragment))
	select {
	case s.Trickled <- string(body):
	default:
	}
	s.Tell(signal.Candidate{Session: r.PathValue("id"), Fragment: string(body)})
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.deleted = append(s.deleted, r.PathValue("id"))
	d := s.current
	s.mu.Unlock()
	if d != nil {
		write(r.Context(), d.conn, signal.End{Session: r.PathValue("id"), Reason: "client"})
	}
}
