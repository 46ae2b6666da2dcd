package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	sdk "github.com/turnpike-rtc/turnpike/device"
	"github.com/turnpike-rtc/turnpike/internal/server"
)

//go:embed demo/clip.h264
var demoVideo []byte

//go:embed demo/clip.alaw
var demoAudio []byte

// Names of what the demo makes.
const (
	demoApp     = "demo"
	demoDevice  = "demo-camera"
	demoSubject = "demo"
)

// demo is what the demo remembers between two starts: secrets that the server
// shows only once. It is a file in the data directory, mode 0600.
type demo struct {
	AccessID  string `json:"access_id"`
	SecretKey string `json:"secret_key"`
	License   string `json:"license"`
}

func demoCommand(sh *shell) *cobra.Command {
	c := &cobra.Command{
		Use: "demo", Short: "Run the server with a device of its own, for a first look",
		Long: `Run the server with an app "demo" and a device "demo-camera" that shows a moving
picture with a tone, and print the address of a page that plays it.`,
		Example: "  turnpike demo\n  turnpike demo --temp --http :8080",
		Args:    arguments(cobra.NoArgs),
	}
	temp := c.Flags().Bool("temp", false, "use a temporary data directory and remove it at the end")
	flags := settingFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *temp {
			dir, err := os.MkdirTemp("", "turnpike-demo-")
			if err != nil {
				return fmt.Errorf("cannot make a temporary directory: %w", err)
			}
			defer os.RemoveAll(dir)
			sh.data = dir
		}
		config, err := sh.quiet(flags())
		if err != nil {
			return err
		}
		return sh.demo(c.Context(), config)
	}
	return c
}

// demo runs the server and the device, side by side, until ctx ends.
func (sh *shell) demo(ctx context.Context, config server.Config) error {
	s, err := server.New(ctx, config)
	if err != nil {
		return err
	}
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return s.Run(ctx) })
	parts.Go(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Ready():
		}
		return sh.showDemo(ctx, config.Data, pageAddress(s))
	})
	if err := parts.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("cannot run the demo: %w", err)
	}
	return nil
}

// pageAddress is where a browser on this machine finds the server. Only localhost
// is a place that browsers trust without HTTPS.
func pageAddress(s *server.Server) string {
	scheme := "http"
	if s.Addr(scheme) == "" {
		scheme = "https"
	}
	bound, err := netip.ParseAddrPort(s.Addr(scheme))
	if err == nil && (bound.Addr().IsUnspecified() || bound.Addr().IsLoopback()) {
		return fmt.Sprintf("%s://localhost:%d", scheme, bound.Port())
	}
	return scheme + "://" + s.Addr(scheme)
}

// showDemo sets the demo up, says where it is, and plays the device.
func (sh *shell) showDemo(ctx context.Context, dir, address string) error {
	l, err := dial(ctx, server.SocketPath(dir))
	if err != nil {
		return err
	}
	d, err := l.prepareDemo(ctx, filepath.Join(dir, "demo.json"))
	if err := errors.Join(err, l.close()); err != nil {
		return err
	}
	shown, err := sdk.NewClip(demoVideo, 25, demoAudio)
	if err != nil {
		return err
	}
	p := player{
		license: d.License, server: address, client: demoDevice, clip: shown, loop: true, tell: func(string, ...any) {},
		streams: []sdk.Stream{{ID: videoStream, Codec: sdk.H264}, {ID: audioStream, Codec: sdk.ALaw}},
	}
	user, err := signUser(d.AccessID, d.SecretKey, demoSubject, time.Now(), 12*time.Hour)
	if err != nil {
		return err
	}
	fmt.Fprintf(sh.out, "Turnpike is running. Open this page, it works for 12 hours:\n\n  %s/watch/device/%s#user=%s\n\nData is in %s. Ctrl-C stops it.\n",
		address, demoDevice, user, dir)
	return p.run(ctx)
}

// prepareDemo makes the app, its key, the device and the grant, as far as they are
// missing, and keeps the secrets in file.
func (l *link) prepareDemo(ctx context.Context, file string) (demo, error) {
	var d demo
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return d, fmt.Errorf("cannot read what the demo remembers: %w; remove the file to start afresh", err)
	}
	if err := errors.Join(l.demoKey(ctx, &d), l.demoCamera(ctx, &d), l.demoGrant(ctx)); err != nil {
		return d, err
	}
	text, err = json.Marshal(d)
	if err != nil {
		return d, err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return d, fmt.Errorf("cannot remember the demo: %w", err)
	}
	return d, nil
}

func (l *link) demoKey(ctx context.Context, d *demo) error {
	var k newKey
	err := l.call(ctx, http.MethodPost, "/apps", map[string]string{"app": demoApp}, &k)
	if taken(err) {
		if l.keyWorks(ctx, d.AccessID) {
			return nil
		}
		err = l.call(ctx, http.MethodPost, address(nil, "apps", demoApp, "keys"), nil, &k)
	}
	d.AccessID, d.SecretKey = k.AccessID, k.SecretKey
	return err
}

func (l *link) keyWorks(ctx context.Context, accessID string) bool {
	var list struct{ Keys []key }
	if err := l.call(ctx, http.MethodGet, address(nil, "apps", demoApp, "keys"), nil, &list); err != nil {
		return false
	}
	for _, k := range list.Keys {
		if k.AccessID == accessID {
			return k.Active
		}
	}
	return false
}

// demoCamera makes the device. One whose license is not remembered is made again.
func (l *link) demoCamera(ctx context.Context, d *demo) error {
	add := func() error {
		var made newDevice
		err := l.call(ctx, http.MethodPost, address(nil, "apps", demoApp, "devices"), map[string]string{"device_id": demoDevice}, &made)
		if err == nil {
			d.License = made.License
		}
		return err
	}
	err := add()
	if !taken(err) || d.License != "" {
		if taken(err) {
			return nil
		}
		return err
	}
	var there device
	if err := l.call(ctx, http.MethodGet, address(nil, "devices", demoDevice), nil, &there); err != nil {
		return err
	}
	if there.App != demoApp {
		return fmt.Errorf("cannot make device %q: app %q has one of this name", demoDevice, there.App)
	}
	if err := l.call(ctx, http.MethodDelete, address(nil, "devices", demoDevice), nil, nil); err != nil {
		return err
	}
	return add()
}

func (l *link) demoGrant(ctx context.Context) error {
	body := map[string]string{"subject": demoSubject, "action": "connect", "resource": "device:" + demoDevice}
	err := l.call(ctx, http.MethodPost, address(nil, "apps", demoApp, "grants"), body, nil)
	if taken(err) {
		return nil
	}
	return err
}

// taken reports whether the API refused because the thing is there already.
func taken(err error) bool {
	var p *problem
	return errors.As(err, &p) && p.Code == "exists"
}
