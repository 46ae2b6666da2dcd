package client

import (
	"context"
	"errors"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

const (
	renewEvery     = 60 * time.Second // protocol/device.md, 2
	requestTimeout = 15 * time.Second // the device has 10 s to answer
	goodbyeTimeout = 3 * time.Second
	resumeFirst    = 250 * time.Millisecond // between attempts, doubled each time
	resumeLongest  = 5 * time.Second
)

// open makes one peer connection with one presentation of a credential, and waits
// until it is up. On failure nothing is left.
func (c *Conn) open(ctx context.Context, device, credential string) (*peer, *session, error) {
	p, err := c.newPeer()
	if err != nil {
		return nil, nil, err
	}
	offer, err := p.offer()
	if err != nil {
		p.close()
		return nil, nil, err
	}
	s, err := c.post(ctx, device, credential, offer.SDP, p.wanted())
	if err != nil {
		p.close()
		return nil, nil, err
	}
	if err = p.gather(offer, s.servers); err == nil {
		err = p.connect(ctx, s)
	}
	if err != nil {
		p.close()
		c.leave(s)
		return nil, nil, err
	}
	return p, s, nil
}

// leave deletes a session at the server, which would otherwise learn of its end from
// the device.
func (c *Conn) leave(s *session) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
	defer cancel()
	if err := s.delete(ctx); err != nil {
		c.config.Log.Debug("cannot delete session", "error", err)
	}
}

// install makes a peer connection the current one.
func (c *Conn) install(p *peer) {
	c.mu.Lock()
	c.peer = p
	c.mu.Unlock()
	c.setState(Connected, nil)
	// An output attached since the offer was made has no media section yet.
	for _, kind := range []media.Kind{media.Video, media.Audio} {
		for _, id := range c.attached(kind) {
			if !p.offered[uint8(id)] {
				c.tasks.Go(func() { p.want(uint8(id)) })
			}
		}
	}
}

// uninstall ends the current peer connection.
func (c *Conn) uninstall(p *peer) {
	c.mu.Lock()
	c.peer = nil
	c.mu.Unlock()
	p.close()
}

// keep looks after the connection until life ends or it is lost for good.
func (c *Conn) keep(life context.Context, device string, p *peer, s *session) {
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	for {
		select {
		case <-life.Done():
			c.uninstall(p)
			c.leave(s)
			c.setState(Disconnected, nil)
			return
		case <-renew.C:
			ctx, cancel := context.WithTimeout(life, requestTimeout)
			if err := s.renew(ctx); err != nil {
				c.config.Log.Debug("cannot renew resume ticket", "error", err)
			}
			cancel()
		case <-p.lost:
			c.uninstall(p)
			if c.config.NoResume {
				c.leave(s)
				c.setState(Disconnected, ErrLost)
				return
			}
			c.config.Log.Info("connection lost", "device", device)
			c.setState(Connecting, ErrLost)
			again, next, err := c.resume(life, device, s)
			if err != nil {
				c.setState(Disconnected, err)
				return
			}
			p, s = again, next
			c.install(p)
		}
	}
}

// resume presents the ticket until it works, is refused, or has expired.
func (c *Conn) resume(life context.Context, device string, s *session) (*peer, *session, error) {
	wait := time.Duration(0)
	for {
		ticket, end := s.credential()
		left := time.Until(end)
		if ticket == "" || left <= 0 {
			return nil, nil, ErrLost
		}
		timer := time.NewTimer(wait)
		select {
		case <-life.Done():
			timer.Stop()
			c.leave(s)
			return nil, nil, life.Err()
		case <-timer.C:
		}
		ctx, cancel := context.WithTimeout(life, min(requestTimeout, left))
		p, next, err := c.open(ctx, device, ticket)
		cancel()
		if err == nil {
			return p, next, nil
		}
		var no *Error
		if errors.As(err, &no) && no.final() {
			return nil, nil, errors.Join(ErrLost, err)
		}
		c.config.Log.Info("cannot resume yet", "device", device, "error", err)
		wait = min(max(2*wait, resumeFirst), resumeLongest)
		if no != nil {
			wait = max(wait, no.RetryAfter)
		}
	}
}
