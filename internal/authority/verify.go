package authority

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/turnpike-rtc/turnpike/token"
)

// Verify checks what a client presents to be let in: a connect token or a resume
// ticket. It does not know whether a token was spent; its admission tells.
func (a *Authority) Verify(ctx context.Context, raw string) (token.Claims, error) {
	if strings.HasPrefix(raw, token.TicketPrefix) {
		return a.verifyTicket(ctx, raw)
	}
	return a.verifyConnect(ctx, raw)
}

func (a *Authority) verifyConnect(ctx context.Context, raw string) (token.Claims, error) {
	claims := token.Claims{Kind: token.KindConnect}
	parsed, err := token.ParseConnect(raw)
	if err != nil {
		return claims, err
	}
	v, err := a.current(ctx)
	if err != nil {
		return claims, fmt.Errorf("cannot verify connect token: %w", err)
	}
	p, err := a.parties(ctx, v, parsed.KeyID, parsed.DeviceID)
	if err != nil {
		return claims, err
	}
	claims.ID, claims.KeyID, claims.Subject, claims.App = parsed.ID(), parsed.KeyID, parsed.Subject(), p.app.Name
	claims.Resource, claims.Actions = deviceResource+parsed.DeviceID, []string{"connect"}
	c, err := parsed.Verify(p.secrets, a.now(), p.app.Policy)
	if p.refusal != nil {
		err = p.refusal // after the work, which is the same for all
	}
	if err != nil {
		return claims, fmt.Errorf("cannot verify connect token: %w", err)
	}
	claims.Issued, claims.Expires = c.Issued, c.Expires
	claims.Once, claims.Ends, claims.Revision = true, p.app.Policy.EndExpiry, v.revision
	if a.isRevoked(claims) {
		return claims, fmt.Errorf("cannot verify connect token: %w", token.ErrRevoked)
	}
	return claims, nil
}

// deviceResource begins the name of a device as a resource (see package access).
const deviceResource = "device:"

// parties are the records that a connect token names.
type parties struct {
	app     token.App
	secrets token.Secrets // random ones in place of those that are missing
	refusal error         // what is wrong with them
}

func (a *Authority) parties(ctx context.Context, v view, keyID, deviceID string) (parties, error) {
	key, noKey := a.key(ctx, v, keyID)
	device, noDevice := a.device(ctx, v, deviceID)
	app, noApp := a.app(ctx, v, key.App)
	if err := first(
		unless("verify connect token", "key", noKey),
		unless("verify connect token", "device", noDevice),
		unless("verify connect token", "app", noApp),
	); err != nil {
		return parties{}, err
	}
	p := parties{app: app, secrets: token.Secrets{App: key.Secret, Device: device.Secret}}
	if noKey != nil {
		p.secrets.App = a.nobody.App
	}
	if noDevice != nil {
		p.secrets.Device = a.nobody.Device
	}
	switch {
	case noKey != nil || noDevice != nil || noApp != nil:
		p.refusal = token.ErrUnknown
	case !key.Active(a.now()) || device.Disabled:
		p.refusal = token.ErrDisabled
	case key.App != device.App:
		p.refusal = token.ErrForeign
	}
	return p, nil
}

func (a *Authority) verifyTicket(ctx context.Context, raw string) (token.Claims, error) {
	claims := token.Claims{Kind: token.KindTicket}
	hash, err := token.ParseTicket(raw)
	if err != nil {
		return claims, err
	}
	v, err := a.current(ctx)
	if err != nil {
		return claims, fmt.Errorf("cannot verify resume ticket: %w", err)
	}
	// The ticket is looked up after the view was taken, so that whatever voids it
	// later has a higher revision.
	read, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	found, err := a.keeper.Ticket(read, hash)
	if err != nil {
		return claims, fmt.Errorf("cannot verify resume ticket: %w", err)
	}
	claims = found
	if now := a.now(); !now.Before(claims.Expires) || !claims.Until.IsZero() && !now.Before(claims.Until) {
		return claims, fmt.Errorf("cannot verify resume ticket: %w", token.ErrExpired)
	}
	return a.recheck(ctx, v, claims)
}

// Recheck reports whether claims that were true once still stand: that their key is
// not revoked, their device not disabled or removed, and neither their token nor
// their subject revoked. It returns them with the revision this was found at. That
// a token or its key has expired since does not matter.
func (a *Authority) Recheck(ctx context.Context, c token.Claims) (token.Claims, error) {
	v, err := a.current(ctx)
	if err != nil {
		return c, fmt.Errorf("cannot check claims again: %w", err)
	}
	return a.recheck(ctx, v, c)
}

func (a *Authority) recheck(ctx context.Context, v view, c token.Claims) (token.Claims, error) {
	if c.KeyID != "" {
		key, err := a.key(ctx, v, c.KeyID)
		if err == nil && key.Revoked {
			err = token.ErrDisabled
		}
		if err != nil {
			return c, fmt.Errorf("cannot check key again: %w", err)
		}
	}
	if id, ok := strings.CutPrefix(c.Resource, deviceResource); ok {
		device, err := a.device(ctx, v, id)
		switch {
		case err == nil && device.Disabled:
			err = token.ErrDisabled
		case err == nil && device.App != c.App:
			err = token.ErrForeign
		}
		if err != nil {
			return c, fmt.Errorf("cannot check device again: %w", err)
		}
	}
	if a.isRevoked(c) {
		return c, fmt.Errorf("cannot check claims again: %w", token.ErrRevoked)
	}
	c.Revision = v.revision
	return c, nil
}

// VerifyKey checks an access id and its secret key, as HTTP Basic carries them. The
// holder manages the key's app.
func (a *Authority) VerifyKey(ctx context.Context, accessID, secret string) (token.Claims, error) {
	claims := token.Claims{Kind: token.KindKey}
	v, err := a.current(ctx)
	if err != nil {
		return claims, fmt.Errorf("cannot verify API key: %w", err)
	}
	key, noKey := a.key(ctx, v, accessID)
	app, noApp := a.app(ctx, v, key.App)
	if err := first(unless("verify API key", "key", noKey), unless("verify API key", "app", noApp)); err != nil {
		return claims, err
	}
	want := key.Secret
	if noKey != nil {
		want = a.nobody.App
	} else {
		claims.KeyID, claims.App = key.ID, app.Name
	}
	err = sameSecret(secret, want)
	switch {
	case noKey != nil || noApp != nil:
		err = token.ErrUnknown
	case !key.Active(a.now()):
		err = token.ErrDisabled
	}
	if err != nil {
		return claims, fmt.Errorf("cannot verify API key: %w", err)
	}
	claims.ID, claims.Subject = "key:"+key.ID, "key:"+key.ID
	claims.Resource, claims.Actions = "app:"+app.Name, []string{"manage"}
	claims.Issued, claims.Expires, claims.Revision = key.Created, key.Retires, v.revision
	return claims, nil
}

// sameSecret compares hashes, so that the time tells neither content nor length.
func sameSecret(got, want string) error {
	g, w := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	if !hmac.Equal(g[:], w[:]) {
		return token.ErrSignature
	}
	return nil
}

// ProveDevice checks the proof with which a device opens its connection
// (protocol/device.md, section 1.1), and returns the device and the server's own
// proof. It reads the device anew each time.
func (a *Authority) ProveDevice(ctx context.Context, deviceID, clientID, serverNonce, deviceNonce, proof string) (token.Device, string, error) {
	device, noDevice := token.Device{}, error(token.ErrUnknown)
	if token.ValidDeviceID(deviceID) {
		device, noDevice = a.keeper.Device(ctx, deviceID)
	}
	if err := unless("prove device", "device", noDevice); err != nil {
		return token.Device{}, "", err
	}
	secret := device.Secret
	if noDevice != nil {
		secret = a.nobody.Device
	}
	want := token.DeviceProof(secret, serverNonce, deviceNonce, deviceID, clientID)
	var err error
	switch genuine := hmac.Equal([]byte(proof), []byte(want)); {
	case noDevice != nil:
		err = token.ErrUnknown
	case device.Disabled:
		err = token.ErrDisabled
	case !genuine:
		err = token.ErrSignature
	}
	if err != nil {
		return token.Device{}, "", fmt.Errorf("cannot prove device: %w", err)
	}
	return device, token.ServerProof(secret, deviceNonce, serverNonce), nil
}
