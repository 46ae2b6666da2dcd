package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	"github.com/turnpike-rtc/turnpike/token"
)

func tokenCommand(sh *shell) *cobra.Command {
	return group("token", "Sign, check and revoke tokens", "",
		tokenConnect(sh), tokenUser(sh), tokenVerify(sh), tokenRevoke(sh))
}

// secrets are what a back end signs with. Flags come first, then the environment.
type secrets struct{ accessID, secretKey, deviceSecret string }

func (sh *shell) secretFlags(c *cobra.Command, s *secrets, withDevice bool) {
	c.Flags().StringVar(&s.accessID, "access-id", "", "access id that signs (or TURNPIKE_ACCESS_ID)")
	c.Flags().StringVar(&s.secretKey, "secret-key", "", "its secret key (or TURNPIKE_SECRET_KEY)")
	if withDevice {
		c.Flags().StringVar(&s.deviceSecret, "device-secret-key", "", "secret of the device (or TURNPIKE_DEVICE_SECRET_KEY)")
	}
}

// fill takes from the environment what no flag gave, and checks that nothing is missing.
func (sh *shell) fill(c *cobra.Command, s *secrets) error {
	for _, v := range []struct {
		to         *string
		flag, name string
	}{
		{&s.accessID, "access-id", "TURNPIKE_ACCESS_ID"},
		{&s.secretKey, "secret-key", "TURNPIKE_SECRET_KEY"},
		{&s.deviceSecret, "device-secret-key", "TURNPIKE_DEVICE_SECRET_KEY"},
	} {
		if c.Flag(v.flag) == nil {
			continue
		}
		if *v.to == "" {
			*v.to = sh.lookup(v.name)
		}
		if *v.to == "" {
			return usageError{fmt.Errorf("cannot sign without --%s or %s", v.flag, v.name)}
		}
	}
	return nil
}

func tokenConnect(sh *shell) *cobra.Command {
	var s secrets
	var name, remote, subject string
	ttl := seconds(300)
	c := &cobra.Command{
		Use: "connect --remote-id DEVICE-ID --sub SUBJECT", Short: "Sign a connect token and print it alone",
		Long: `Sign a connect token: whoever presents it reaches the device, once.

It is signed here, with the secrets from flags or the environment, and needs no server.
With --app it is the server of the data directory that signs, with the app's newest key.`,
		Example: `  turnpike token connect --remote-id CAM01 --sub user-17     # secrets in the environment
  turnpike token connect --app garage --remote-id CAM01 --sub user-17 --ttl 60`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := require(c, "remote-id", "sub"); err != nil {
				return err
			}
			if name != "" {
				return sh.issue(c.Context(), name, remote, subject, ttl)
			}
			if err := sh.fill(c, &s); err != nil {
				return err
			}
			return sh.sign(s, remote, subject, ttl)
		},
	}
	sh.secretFlags(c, &s, true)
	sh.appFlag(c, &name)
	c.Flags().StringVar(&remote, "remote-id", "", "device to connect to: its id, or device://<id>")
	c.Flags().StringVar(&subject, "sub", "", "who connects")
	c.Flags().Var(&ttl, "ttl", "time until the token expires, at most 24h")
	complete(c, "remote-id", sh.completeDevices)
	return c
}

func (sh *shell) sign(s secrets, remote, subject string, ttl seconds) error {
	id, err := token.ParseRemoteID(remote)
	if err != nil {
		return usageError{err}
	}
	now := time.Now()
	life := time.Duration(ttl) * time.Second
	if life <= 0 || life > token.MaxConnectTTL {
		return usageError{fmt.Errorf("cannot sign connect token for %d seconds: want 1s to 24h", ttl)}
	}
	raw, err := token.SignConnect(token.Connect{
		Subject: subject, DeviceID: id, KeyID: s.accessID, Issued: now, Expires: now.Add(life), Nonce: token.NewNonce(),
	}, token.Secrets{App: s.secretKey, Device: s.deviceSecret})
	if err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprintln(sh.out, raw)
	return err
}

// issue has the server sign.
func (sh *shell) issue(ctx context.Context, app, remote, subject string, ttl seconds) error {
	return sh.with(ctx, func(l *link) error {
		body := map[string]any{"remote_id": remote, "subject": subject, "ttl": ttl}
		var answer struct{ Token string }
		if err := l.call(ctx, http.MethodPost, address(nil, "apps", app, "tokens"), body, &answer); err != nil {
			return fmt.Errorf("cannot issue a token for %q: %w", remote, err)
		}
		_, err := fmt.Fprintln(sh.out, answer.Token)
		return err
	})
}

func tokenUser(sh *shell) *cobra.Command {
	var s secrets
	var subject string
	ttl := seconds(3600)
	c := &cobra.Command{
		Use: "user --sub SUBJECT", Short: "Sign a user token and print it alone",
		Long: `Sign a user token: a JWT with which a user asks /connect-token for connect tokens, as
far as grants allow. Usually your own sign-in makes them; this is for trying out. It is
signed here and needs no server.`,
		Example: "  turnpike token user --sub user-17 --ttl 3600     # secrets in the environment",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := require(c, "sub"); err != nil {
				return err
			}
			if err := sh.fill(c, &s); err != nil {
				return err
			}
			if !token.ValidSubject(subject) || ttl < 1 || ttl > maxUserTTL {
				return usageError{errors.New("cannot sign user token: want a --sub of 1 to 256 bytes and a --ttl of 1s to 168h")}
			}
			raw, err := signUser(s.accessID, s.secretKey, subject, time.Now(), time.Duration(ttl)*time.Second)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(sh.out, raw)
			return err
		},
	}
	sh.secretFlags(c, &s, false)
	c.Flags().StringVar(&subject, "sub", "", "who the user is")
	c.Flags().Var(&ttl, "ttl", "time until the token expires, at most 168h")
	return c
}

// maxUserTTL is the longest life of a user token, in seconds (protocol/token.md, section 4).
const maxUserTTL = 7 * 24 * 60 * 60

// signUser makes a user token signed with a key of the app (protocol/token.md, section 4).
func signUser(accessID, secretKey, subject string, now time.Time, ttl time.Duration) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": accessID, "sub": subject, "iat": now.Unix(), "exp": now.Add(ttl).Unix(),
	})
	t.Header["kid"] = accessID
	raw, err := t.SignedString([]byte(secretKey))
	if err != nil {
		return "", fmt.Errorf("cannot sign user token: %w", err)
	}
	return raw, nil
}

// verdict is what the API says about a token.
type verdict struct {
	Valid    bool      `json:"valid"`
	Reason   string    `json:"reason,omitempty"`
	Kind     string    `json:"kind,omitempty"`
	TokenID  string    `json:"token_id,omitempty"`
	App      string    `json:"app,omitempty"`
	AccessID string    `json:"access_id,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	Resource string    `json:"resource,omitempty"`
	Issued   time.Time `json:"issued,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
}

func tokenVerify(sh *shell) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "verify TOKEN", Short: "Say whether a token is good, without spending it",
		Long: `Say whether the server would accept a token now, and if not, why not; the doors
themselves never tell. It is not spent by this. With "-" the token is read from
standard input.

Exit code 3 means that it is not good.`,
		Example: "  turnpike token verify \"$TOKEN\"\n  echo \"$TOKEN\" | turnpike token verify -",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			raw, err := sh.credential(args[0])
			if err != nil {
				return err
			}
			return sh.with(c.Context(), func(l *link) error {
				var v verdict
				if err := l.call(c.Context(), http.MethodPost, "/tokens/verify", map[string]string{"token": raw}, &v); err != nil {
					return fmt.Errorf("cannot verify the token: %w", err)
				}
				if err := sh.showVerdict(v, asJSON); err != nil {
					return err
				}
				if !v.Valid {
					return errRefused
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func (sh *shell) showVerdict(v verdict, asJSON bool) error {
	switch {
	case asJSON:
		return sh.json(v)
	case !v.Valid:
		return sh.card("valid", "no", "reason", v.Reason)
	}
	return sh.card("valid", "yes", "kind", v.Kind, "token id", v.TokenID, "app", v.App, "access id", v.AccessID,
		"subject", v.Subject, "resource", v.Resource, "issued", when(v.Issued), "expires", when(v.Expires),
		"left", strconv.Itoa(int(time.Until(v.Expires)/time.Second))+" s")
}

// credential is an argument, or the first line of standard input for "-".
func (sh *shell) credential(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	line, err := bufio.NewReaderSize(sh.in, 64<<10).ReadString('\n')
	if line = strings.TrimSpace(line); line == "" {
		return "", usageError{fmt.Errorf("cannot read a token from standard input: %w", err)}
	}
	return line, nil
}

func tokenRevoke(sh *shell) *cobra.Command {
	var name, id, subject string
	c := &cobra.Command{
		Use: "revoke [TOKEN]", Short: "Revoke a token, or all tokens of a subject",
		Long: `Revoke a token, by itself or, with --app, by the id that the audit trail shows, or
everything that a subject of an app has so far. Sessions they opened end within a
second. With "-" the token is read from standard input.`,
		Example: `  turnpike token revoke "$TOKEN"
  turnpike token revoke --app garage --id Kq0vTb3x9Yc2Lw8n4Zr1Ha
  turnpike token revoke --app garage --sub user-17`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			path, body, err := sh.revocation(append(args, given(id)...), name, subject)
			if err != nil {
				return err
			}
			return sh.with(c.Context(), func(l *link) error {
				if err := l.call(c.Context(), http.MethodPost, path, body, nil); err != nil {
					return fmt.Errorf("cannot revoke: %w", err)
				}
				return nil
			})
		},
	}
	sh.appFlag(c, &name)
	c.Flags().StringVar(&id, "id", "", "id of the token")
	c.Flags().StringVar(&subject, "sub", "", "subject whose tokens and sessions end")
	return c
}

// given is a list of text, unless it is empty.
func given(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}

// revocation turns the token or the token id in args, or the subject, into a request.
func (sh *shell) revocation(args []string, app, subject string) (string, map[string]string, error) {
	switch {
	case len(args) == 0 && subject != "" && app != "":
		return address(nil, "apps", app, "subjects", "revoke"), map[string]string{"subject": subject}, nil
	case len(args) != 1 || subject != "":
		return "", nil, usageError{errors.New("cannot revoke: name a token, or --app and --id, or --app and --sub")}
	}
	raw, err := sh.credential(args[0])
	switch {
	case err != nil:
		return "", nil, err
	case strings.Contains(raw, "."):
		return "/tokens/revoke", map[string]string{"token": raw}, nil
	case app == "":
		return "", nil, usageError{errors.New("cannot revoke a token by its id without --app")}
	}
	return "/tokens/revoke", map[string]string{"app": app, "token_id": raw}, nil
}
