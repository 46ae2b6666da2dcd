package device

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

// Clip is a recording that stands in for a camera and a microphone: for trying things
// out, and as an example of how to feed a device.
type Clip struct {
	units [][]byte
	sound []byte
	fps   int
}

// NewClip takes an H.264 byte stream with fps pictures a second, and raw A-law. Either
// may be empty. The clip keeps sound, so that the caller must not change it.
func NewClip(video []byte, fps int, sound []byte) (*Clip, error) {
	units, err := media.AccessUnits(video)
	if err != nil {
		return nil, fmt.Errorf("cannot read clip: %w", err)
	}
	switch {
	case len(units) == 0 && len(sound) == 0:
		return nil, errors.New("cannot read clip: no H.264 pictures and no sound in it")
	case len(units) > 0 && !media.Look(units[0]).Starts():
		return nil, fmt.Errorf("cannot read clip: %w", ErrNeedsKeyFrame)
	case len(units) > 0 && (fps < 1 || fps > 240):
		return nil, fmt.Errorf("cannot read clip: %d frames per second", fps)
	}
	return &Clip{units, sound, fps}, nil
}

// Duration is how long the clip's pictures last, or its sound if there are none.
func (c *Clip) Duration() time.Duration {
	if len(c.units) > 0 {
		return time.Duration(len(c.units)) * time.Second / time.Duration(c.fps)
	}
	return time.Duration(len(c.sound)) * time.Second / 8000
}

// Play sends the clip over and over, at its own pace, until ctx ends, and returns
// ctx's error or the first one of Send. Pictures go to the stream video, sound to the
// stream audio; how fast sound goes follows from that stream's codec.
func (c *Clip) Play(ctx context.Context, d *Device, video, audio uint8) error {
	octets := 160 // in 20 ms
	if s := d.stream(int(audio)); s != nil && s.source == media.ALaw16 {
		octets = 320
	}
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for picture, piece := 0, 0; ; {
		// Both counts run on for ever; whatever is due first is next.
		pictureAt, pieceAt := picture*1000/max(c.fps, 1), piece*20
		showing := len(c.units) > 0 && (len(c.sound) < octets || pictureAt <= pieceAt)
		at := pieceAt
		if showing {
			at = pictureAt
		}
		timer.Reset(time.Until(begin.Add(time.Duration(at) * time.Millisecond)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		var err error
		if showing {
			unit := c.units[picture%len(c.units)]
			err = d.Send(video, Frame{TimestampMs: uint32(at), Key: media.Look(unit).Key, Data: unit})
			picture++
		} else {
			from := piece % (len(c.sound) / octets) * octets
			err = d.Send(audio, Frame{TimestampMs: uint32(at), Data: c.sound[from : from+octets]})
			piece++
		}
		if err != nil {
			return err
		}
	}
}
