package authority

import (
	"context"
	"errors"
	"sync"

	"github.com/turnpike-rtc/turnpike/token"
)

// maxCached bounds each cache. A full one forgets any entry to take in a new one:
// the caches save work, and an attacker who floods them only makes us read again.
const maxCached = 10_000

// cache keeps records by id, and that there is none of an id.
type cache[V any] struct {
	mu      *sync.Mutex
	entries map[string]cached[V]
}

type cached[V any] struct {
	value    V
	unknown  bool
	revision int64 // of the view it was read under; the record may be newer
}

func newCache[V any]() cache[V] {
	return cache[V]{mu: new(sync.Mutex), entries: make(map[string]cached[V])}
}

// get returns the record as it was at the revision of v or later. It reads it
// when the cache has none, or one from before a record changed.
func (c cache[V]) get(ctx context.Context, v view, id string, read func(context.Context, string) (V, error)) (V, error) {
	c.mu.Lock()
	e, ok := c.entries[id]
	c.mu.Unlock()
	if !ok || e.revision < v.records {
		ctx, cancel := context.WithTimeout(ctx, readPatience)
		defer cancel()
		value, err := read(ctx, id)
		if err != nil && !errors.Is(err, token.ErrUnknown) {
			return value, err
		}
		e = cached[V]{value: value, unknown: err != nil, revision: v.revision}
		c.put(id, e)
	}
	if e.unknown {
		return e.value, token.ErrUnknown
	}
	return e.value, nil
}

func (c cache[V]) put(id string, e cached[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.entries[id]; ok && old.revision > e.revision {
		return
	}
	if len(c.entries) >= maxCached {
		for any := range c.entries {
			delete(c.entries, any)
			break
		}
	}
	c.entries[id] = e
}
