package authority

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// DefaultTTL is the life of a connect token for which nobody asked for another.
const DefaultTTL = 5 * time.Minute

// IssueConnect signs a connect token by which subject may connect to the app's
// device, with the newest active key of the app. A ttl of 0 means DefaultTTL; a
// longer one than the app allows is cut, and Expires of the result tells. It returns
// token.ErrUnknown when there is no such device or another app's, and
// token.ErrDisabled when the device is disabled or the app has no active key. Whether
// the subject may connect is for the caller to decide.
func (a *Authority) IssueConnect(ctx context.Context, app, subject, deviceID string, ttl time.Duration) (string, token.Connect, error) {
	raw, c, err := a.issue(ctx, app, subject, deviceID, ttl)
	if err != nil {
		return "", token.Connect{}, fmt.Errorf("cannot issue connect token for device %q: %w", deviceID, err)
	}
	return raw, c, nil
}

func (a *Authority) issue(ctx context.Context, appName, subject, deviceID string, ttl time.Duration) (string, token.Connect, error) {
	v, err := a.current(ctx)
	if err != nil {
		return "", token.Connect{}, err
	}
	app, err := a.app(ctx, v, appName)
	if err != nil {
		return "", token.Connect{}, err
	}
	device, err := a.device(ctx, v, deviceID)
	switch {
	case err == nil && device.App != appName:
		err = token.ErrUnknown
	case err == nil && device.Disabled:
		err = token.ErrDisabled
	}
	if err != nil {
		return "", token.Connect{}, err
	}
	key, err := a.signingKey(ctx, appName)
	if err != nil {
		return "", token.Connect{}, err
	}
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	now := a.now().Truncate(time.Second)
	c := token.Connect{
		Subject: subject, DeviceID: deviceID, KeyID: key.ID, Nonce: token.NewNonce(),
		Issued: now, Expires: now.Add(max(min(ttl, app.Policy.Normal().MaxTTL), time.Second)),
	}
	raw, err := token.SignConnect(c, token.Secrets{App: key.Secret, Device: device.Secret})
	return raw, c, err
}

// signingKey returns the newest active key, and one that does not retire before
// one that does.
func (a *Authority) signingKey(ctx context.Context, app string) (token.Key, error) {
	keys, err := a.keeper.Keys(ctx, app)
	if err != nil {
		return token.Key{}, err
	}
	now := a.now()
	keys = slices.DeleteFunc(keys, func(k token.Key) bool { return !k.Active(now) })
	if len(keys) == 0 {
		return token.Key{}, fmt.Errorf("app %q has no active key: %w", app, token.ErrDisabled)
	}
	return slices.MaxFunc(keys, func(x, y token.Key) int {
		if x.Retires.IsZero() != y.Retires.IsZero() {
			if x.Retires.IsZero() {
				return 1
			}
			return -1
		}
		return x.Created.Compare(y.Created)
	}), nil
}
