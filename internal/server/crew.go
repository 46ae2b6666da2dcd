package server

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// crew is the parts of the server that run side by side and stop together.
type crew struct {
	ctx     context.Context
	cancel  context.CancelFunc
	fail    func(error) // called by a part that ends before it was told to
	working sync.WaitGroup
}

// newCrew returns a crew that works until stop. When ctx ends nothing happens to it:
// it is not ctx that decides in which order the crews stop.
func newCrew(ctx context.Context, fail func(error)) *crew {
	c := &crew{fail: fail}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return c
}

func (c *crew) start(name string, serve func(context.Context) error) {
	c.working.Go(func() {
		if err := serve(c.ctx); err != nil && c.ctx.Err() == nil {
			c.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// stop tells the crew to stop and waits for it, but not longer than patience. It
// reports whether all have stopped.
func (c *crew) stop(patience time.Duration) bool {
	c.cancel()
	stopped := make(chan struct{})
	go func() {
		c.working.Wait()
		close(stopped)
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-stopped:
		return true
	case <-late.C:
		return false
	}
}
