package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// about says what runs here. It is public, so it tells nothing about the apps.
type about struct {
	Version string   `json:"version" example:"1.0.0"`
	Node    string   `json:"node" doc:"Which node of the cluster answered"`
	Doors   []string `json:"doors" doc:"Doors that are open on it"`
}

type aboutOut struct{ Body about }

func (d *Door) routeAbout(api huma.API) {
	add(d, api, route{
		method: http.MethodGet, path: "/about", id: "about", tag: "about", public: true,
		summary: "Say what runs here",
	}, d.about)
}

func (d *Door) about(context.Context, *nothing) (*aboutOut, error) {
	return &aboutOut{about{d.Version, d.Node, append([]string{}, d.Doors...)}}, nil
}
