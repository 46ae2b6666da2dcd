package server

import (
	"net"
	"net/http"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/bus"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/door/api"
	"github.com/turnpike-rtc/turnpike/internal/door/device"
	"github.com/turnpike-rtc/turnpike/internal/store"
)

// doorList is every door there is. To add one, write its folder and add its line.
func doorList() []entry {
	return []entry{
		open("device", device.DefaultConfig(), func(s *Server, c device.Config) (door.Door, error) {
			return device.New(c, s.gate, device.Deps{
				Authority: s.authority, Presence: s.store, Records: s.ledger, Changes: s.authority,
				Bus: s.bus, NobodyThere: bus.ErrNoResponders, Node: s.node, Now: time.Now, Log: s.log,
				Metrics: s.metrics, MediaUDPPort: port(s.config.Media.UDP),
			})
		}),
		open("api", api.Config{}, func(s *Server, c api.Config) (door.Door, error) {
			return s.newAPI(c)
		}),
	}
}

// entry is one door by name, with its section of the configuration.
type entry struct {
	name   string
	config any // a pointer, so that settings can be read into it
	make   func(*Server) (door.Door, error)
}

func open[C any](name string, defaults C, build func(*Server, C) (door.Door, error)) entry {
	config := &defaults
	return entry{name, config, func(s *Server) (door.Door, error) { return build(s, *config) }}
}

// openDoors builds the doors and puts those that speak HTTP on the shared listener.
func (s *Server) openDoors() error {
	for _, e := range s.config.doors {
		d, err := e.make(s)
		if err != nil {
			return err
		}
		if w, ok := d.(door.WebDoor); ok {
			s.web.Mount(w)
		}
		s.doors = append(s.doors, d)
	}
	return nil
}

func (s *Server) newAPI(c api.Config) (*api.Door, error) {
	var names []string
	for _, e := range s.config.doors {
		names = append(names, e.name)
	}
	return api.New(c, api.Deps{
		Records: s.ledger, Credentials: s.authority, Taken: store.ErrExists,
		Version: Version, Node: s.node, Doors: names, Now: time.Now, Log: s.log,
	})
}

// mountAPI adds the management API alone, for local commands without a server.
func (s *Server) mountAPI(mux *http.ServeMux) error {
	d, err := s.newAPI(api.Config{})
	if err != nil {
		return err
	}
	d.Mount(mux)
	return nil
}

// port is the port of an address; empty when it is off, or when the system chooses it.
func port(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return ""
	}
	return port
}
