package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	sdk "github.com/turnpike-rtc/turnpike/device"
	"github.com/turnpike-rtc/turnpike/token"
)

// player is a device that plays a clip.
type player struct {
	license, server, client string
	clip                    *sdk.Clip
	streams                 []sdk.Stream
	loop                    bool
	tell                    func(format string, args ...any) // what people should know
}

// The streams of a device that plays a clip.
const (
	videoStream = 0
	audioStream = 1
)

// run is online until ctx ends or the clip does.
func (p player) run(ctx context.Context) error {
	online := make(chan struct{})
	var first sync.Once
	d, err := sdk.New(sdk.Config{
		Server: p.server, License: p.license, ClientID: p.client, Streams: p.streams,
		OnOnline: func() {
			p.tell("online at %s", p.server)
			first.Do(func() { close(online) })
		},
		OnOffline:      func(err error) { p.tell("offline: %v", err) },
		OnSessionStart: func(*sdk.Viewer) { p.tell("a viewer came") },
		OnSessionEnd:   func(_ *sdk.Viewer, why string) { p.tell("a viewer left: %s", why) },
	})
	if err != nil {
		return err
	}
	parts, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	parts.Go(func() error { return d.Run(ctx) })
	parts.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-online:
		}
		return p.play(ctx, d)
	})
	if err := parts.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// play sends the clip, once or for ever.
func (p player) play(ctx context.Context, d *sdk.Device) error {
	if p.loop {
		return p.clip.Play(ctx, d, videoStream, audioStream)
	}
	once, stop := context.WithTimeout(ctx, p.clip.Duration())
	defer stop()
	err := p.clip.Play(once, d, videoStream, audioStream)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func deviceRun(sh *shell) *cobra.Command {
	var p player
	var video, audio string
	var fps, rate int
	c := &cobra.Command{
		Use: "run --license ID,SECRET --video FILE.h264 --audio FILE.alaw", Short: "Be a device that plays files",
		Long: `Put a device online that plays files in real time: H.264 Annex-B without B-frames,
G.711 A-law mono. It begins again at the end, until it is stopped.

The license may stand in the environment instead, as TURNPIKE_LICENSE, so that the
process list does not show it.`,
		Example: `  turnpike device run --license "$LICENSE" --server https://turnpike.example.com \
    --video clip.h264 --audio clip.alaw`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if p.license == "" {
				p.license = sh.lookup("TURNPIKE_LICENSE")
			}
			if _, err := token.ParseLicense(p.license); err != nil {
				return usageError{fmt.Errorf("cannot run a device: %w; give it with --license or TURNPIKE_LICENSE", err)}
			}
			if err := p.load(video, audio, fps, rate); err != nil {
				return err
			}
			p.tell = func(format string, args ...any) { fmt.Fprintf(sh.err, "device: "+format+"\n", args...) }
			if err := p.run(c.Context()); err != nil {
				return fmt.Errorf("cannot run the device: %w", err)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&p.license, "license", "", "what device add printed: <device_id>,<device_secret_key>")
	f.StringVar(&p.server, "server", "http://localhost:5080", "address of the server")
	f.StringVar(&p.client, "client-id", hardware(), "physical identity of the device")
	f.StringVar(&video, "video", "", "H.264 file")
	f.StringVar(&audio, "audio", "", "A-law file")
	f.IntVar(&fps, "fps", 25, "pictures a second of the video")
	f.IntVar(&rate, "audio-rate", 8000, "samples a second of the sound: 8000 or 16000")
	f.BoolVar(&p.loop, "loop", true, "begin again at the end; --loop=false ends with the files")
	return c
}

// load reads the files that were named.
func (p *player) load(video, audio string, fps, rate int) error {
	if video == "" && audio == "" {
		return usageError{errors.New("cannot run a device without media: name --video, --audio or both")}
	}
	codecs := map[int]sdk.Codec{8000: sdk.ALaw, 16000: sdk.ALaw16}
	if codecs[rate] == "" {
		return usageError{fmt.Errorf("cannot play sound of %d samples a second: want 8000 or 16000", rate)}
	}
	var pictures, sound []byte
	var err error
	if video != "" {
		p.streams = append(p.streams, sdk.Stream{ID: videoStream, Codec: sdk.H264})
		if pictures, err = os.ReadFile(video); err != nil {
			return fmt.Errorf("cannot read the video: %w", err)
		}
	}
	if audio != "" {
		p.streams = append(p.streams, sdk.Stream{ID: audioStream, Codec: codecs[rate]})
		if sound, err = os.ReadFile(audio); err != nil {
			return fmt.Errorf("cannot read the sound: %w", err)
		}
	}
	p.clip, err = sdk.NewClip(pictures, fps, sound)
	return err
}

// hardware is the address of the machine's first network card, or its name.
func hardware() string {
	cards, _ := net.Interfaces() // none is as good as an error
	for _, card := range cards {
		if len(card.HardwareAddr) > 0 {
			return card.HardwareAddr.String()
		}
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, name[:min(len(name), 64)])
}
