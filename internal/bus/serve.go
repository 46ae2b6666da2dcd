package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// subscriptionQueue is how many messages wait for the handler of a Subscribe. When
	// it is full, further ones are dropped, and a warning says so.
	subscriptionQueue = 4096

	// requestQueue is how many requests wait to be handed to their handlers, which
	// takes microseconds. When it is full, further ones are dropped, and time out.
	requestQueue = 8192

	// maxRequests is how many handlers run at a time. Further requests are answered
	// with ErrBusy.
	maxRequests = 4096
)

// Headers of requests and answers.
const (
	headerLimit   = "Turnpike-Limit" // milliseconds the asker waits
	headerError   = "Turnpike-Error" // instead of an answer
	errorGone     = "gone"
	errorBusy     = "busy"
	errorTooLarge = "too_large"
)

// subscription is one Subscribe with its goroutine.
type subscription struct {
	sub      *nats.Subscription
	messages chan *nats.Msg
	quit     chan struct{} // closed by stop
	stopped  sync.Once
}

// Subscribe calls f for every message published to the subject, one after the other,
// in a goroutine of its own: a slow f delays nobody else, but Close, which waits for
// it. After stop, f is called no more, though a call may just be going on.
func (b *Bus) Subscribe(subject string, f func(data []byte)) (stop func(), err error) {
	if !validSubject(subject) {
		return nil, fmt.Errorf("cannot subscribe to %q: not a subject", subject)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("cannot subscribe to %q: %w", subject, ErrClosed)
	}
	s := &subscription{messages: make(chan *nats.Msg, subscriptionQueue), quit: make(chan struct{})}
	if s.sub, err = b.conn.ChanSubscribe(subject, s.messages); err != nil {
		return nil, fmt.Errorf("cannot subscribe to %q: %w", subject, ours(err))
	}
	b.subscriptions[s] = struct{}{}
	b.readers.Go(func() { s.read(f) })
	return func() {
		s.stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subscriptions, s)
	}, nil
}

func (s *subscription) read(f func(data []byte)) {
	for {
		select {
		case <-s.quit:
			return
		case m := <-s.messages:
			f(m.Data)
		}
	}
}

func (s *subscription) stop() {
	s.stopped.Do(func() {
		s.sub.Unsubscribe() // fails only when the connection is closed, and then it is moot
		close(s.quit)
	})
}

func (b *Bus) stopSubscriptions() {
	b.mu.Lock()
	for s := range b.subscriptions {
		s.stop()
	}
	b.mu.Unlock()
	b.readers.Wait()
}

// answering serves all Answer subscriptions of a node: their requests come through one
// channel to one goroutine, which starts one for each request. A subscription itself
// costs no goroutine and no buffer.
type answering struct {
	requests chan *nats.Msg
	ctx      context.Context // ends when Close has no more patience
	cancel   context.CancelFunc
	quit     chan struct{}
	done     sync.WaitGroup // the dispatcher and the running handlers
	running  atomic.Int64

	answersMu sync.RWMutex // guards what follows; never held together with mu
	noMore    bool
	answers   map[*nats.Subscription]func(ctx context.Context, data []byte) []byte
}

func (b *Bus) startAnswering() {
	b.requests, b.quit = make(chan *nats.Msg, requestQueue), make(chan struct{})
	b.answers = map[*nats.Subscription]func(context.Context, []byte) []byte{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.done.Go(b.dispatch)
}

// Answer calls f for every request to the subject, each in a goroutine of its own; f
// returns the answer. Its context ends when the asker stops waiting, or at Close. Of
// several who answer a subject, all are asked and the first answer counts. After stop,
// f is called no more, though calls may be going on.
func (b *Bus) Answer(subject string, f func(ctx context.Context, data []byte) []byte) (stop func(), err error) {
	if !validSubject(subject) {
		return nil, fmt.Errorf("cannot answer %q: not a subject", subject)
	}
	b.answersMu.Lock() // the dispatcher waits, should a request come before it is on the map
	defer b.answersMu.Unlock()
	if b.noMore {
		return nil, fmt.Errorf("cannot answer %q: %w", subject, ErrClosed)
	}
	sub, err := b.conn.ChanSubscribe(subject, b.requests)
	if err != nil {
		return nil, fmt.Errorf("cannot answer %q: %w", subject, ours(err))
	}
	b.answers[sub] = f
	return func() {
		b.answersMu.Lock()
		defer b.answersMu.Unlock()
		if _, ok := b.answers[sub]; ok {
			delete(b.answers, sub)
			sub.Unsubscribe() // fails only when the connection is closed, and then it is moot
		}
	}, nil
}

// dispatch starts the handlers. It never waits for one, so that the channel stays
// empty. At the end it starts those that are still in it.
func (b *Bus) dispatch() {
	for {
		select {
		case m := <-b.requests:
			b.start(m)
		case <-b.quit:
			for len(b.requests) > 0 {
				b.start(<-b.requests)
			}
			return
		}
	}
}

func (b *Bus) start(m *nats.Msg) {
	b.answersMu.RLock()
	f := b.answers[m.Sub]
	b.answersMu.RUnlock()
	if m.Reply == "" {
		return // a bare publish, which expects no answer
	}
	if f == nil {
		b.refuse(m, errorGone) // stopped while the request was under way
		return
	}
	if b.running.Add(1) > maxRequests {
		b.running.Add(-1)
		b.refuse(m, errorBusy)
		return
	}
	b.done.Go(func() {
		defer b.running.Add(-1)
		ctx, cancel := context.WithTimeout(b.ctx, limit(m))
		defer cancel()
		b.respond(m, f(ctx, m.Data))
	})
}

// limit is how long the asker waits.
func limit(m *nats.Msg) time.Duration {
	ms, err := strconv.ParseInt(m.Header.Get(headerLimit), 10, 64)
	if err != nil || ms <= 0 || ms > requestTimeout.Milliseconds() {
		return requestTimeout
	}
	return time.Duration(ms) * time.Millisecond
}

func (b *Bus) respond(m *nats.Msg, answer []byte) {
	if len(answer) > b.MaxPayload() {
		b.log.Error("answer is too large for the bus", "subject", m.Subject, "bytes", len(answer))
		b.refuse(m, errorTooLarge)
		return
	}
	if err := b.conn.Publish(m.Reply, answer); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		b.log.Warn("cannot answer request", "subject", m.Subject, "error", ours(err))
	}
}

func (b *Bus) refuse(m *nats.Msg, reason string) {
	answer := nats.NewMsg(m.Reply)
	answer.Header.Set(headerError, reason)
	b.conn.PublishMsg(answer) // the asker times out if even this fails
}

// stopAnswering takes no more requests and waits for the running handlers, whose
// contexts end when they take too long.
func (b *Bus) stopAnswering() {
	b.answersMu.Lock()
	b.noMore = true
	for sub := range b.answers {
		sub.Unsubscribe()
	}
	b.answersMu.Unlock()
	if b.conn.IsConnected() {
		b.conn.FlushTimeout(drainTimeout) // what was sent to us before is in the channel then
	}
	close(b.quit)
	patience := time.AfterFunc(drainTimeout, b.cancel)
	b.done.Wait()
	patience.Stop()
	b.cancel()
}
