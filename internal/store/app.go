package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

const appColumns = `name, skew, max_ttl, one_key, end_expiry, issuer, audience, jwks_url, created`

// CreateApp adds an app. It fails with ErrExists when the name, or the issuer of its
// user tokens, is taken.
func (s *Store) CreateApp(ctx context.Context, a token.App) error {
	_, err := s.change(ctx, recordChange(a.Name, a.Name, a.Created), func(tx *sql.Tx) error {
		if err := issuerIsFree(ctx, tx, a); err != nil {
			return err
		}
		return must(ctx, tx, ErrExists, `INSERT INTO app (`+appColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO NOTHING`,
			a.Name, a.Policy.Skew.Milliseconds(), a.Policy.MaxTTL.Milliseconds(), flag(a.Policy.OneKey),
			flag(a.Policy.EndExpiry), a.Identity.Issuer, a.Identity.Audience, a.Identity.JWKSURL, millis(a.Created))
	})
	if err != nil {
		return fmt.Errorf("cannot create app %q: %w", a.Name, err)
	}
	return nil
}

// SetApp replaces an app's policy and identity. ErrUnknown, or ErrExists when another
// app has the issuer.
func (s *Store) SetApp(ctx context.Context, a token.App) error {
	_, err := s.change(ctx, recordChange(a.Name, a.Name, time.Now()), func(tx *sql.Tx) error {
		if err := issuerIsFree(ctx, tx, a); err != nil {
			return err
		}
		return must(ctx, tx, token.ErrUnknown, `UPDATE app SET skew = $2, max_ttl = $3, one_key = $4, end_expiry = $5,
			issuer = $6, audience = $7, jwks_url = $8 WHERE name = $1`,
			a.Name, a.Policy.Skew.Milliseconds(), a.Policy.MaxTTL.Milliseconds(), flag(a.Policy.OneKey),
			flag(a.Policy.EndExpiry), a.Identity.Issuer, a.Identity.Audience, a.Identity.JWKSURL)
	})
	if err != nil {
		return fmt.Errorf("cannot set app %q: %w", a.Name, err)
	}
	return nil
}

// issuerIsFree makes a clear error of a taken issuer. Writers of records come one at a
// time, so nobody takes it in between; a unique index stands behind it.
func issuerIsFree(ctx context.Context, tx *sql.Tx, a token.App) error {
	if a.Identity.Issuer == "" {
		return nil
	}
	var owner string
	err := tx.QueryRowContext(ctx, `SELECT name FROM app WHERE issuer = $1 AND name <> $2`,
		a.Identity.Issuer, a.Name).Scan(&owner)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("app %q has the issuer %q: %w", owner, a.Identity.Issuer, ErrExists)
}

// App returns the app of that name, or ErrUnknown.
func (s *Store) App(ctx context.Context, name string) (token.App, error) {
	a, err := s.findApp(ctx, `name`, name)
	if err != nil {
		return a, fmt.Errorf("cannot find app %q: %w", name, err)
	}
	return a, nil
}

// AppByIssuer returns the app whose identity provider signs with this "iss", or ErrUnknown.
func (s *Store) AppByIssuer(ctx context.Context, issuer string) (token.App, error) {
	if issuer == "" {
		return token.App{}, fmt.Errorf("cannot find app without an issuer: %w", token.ErrUnknown)
	}
	a, err := s.findApp(ctx, `issuer`, issuer)
	if err != nil {
		return a, fmt.Errorf("cannot find app by issuer: %w", err)
	}
	return a, nil
}

func (s *Store) findApp(ctx context.Context, column, value string) (token.App, error) {
	a, err := scanApp(s.db.read.QueryRowContext(ctx, `SELECT `+appColumns+` FROM app WHERE `+column+` = $1`, value))
	return a, s.found(err)
}

// Apps returns all apps, by name.
func (s *Store) Apps(ctx context.Context) ([]token.App, error) {
	all, err := list(ctx, s, scanApp, `SELECT `+appColumns+` FROM app ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("cannot list apps: %w", err)
	}
	return all, nil
}

func scanApp(row scanner) (a token.App, err error) {
	var skew, maxTTL, created int64
	err = row.Scan(&a.Name, &skew, &maxTTL, &a.Policy.OneKey, &a.Policy.EndExpiry,
		&a.Identity.Issuer, &a.Identity.Audience, &a.Identity.JWKSURL, &created)
	a.Policy.Skew, a.Policy.MaxTTL = time.Duration(skew)*time.Millisecond, time.Duration(maxTTL)*time.Millisecond
	a.Created = moment(created)
	return a, err
}

// appIsThere fails with ErrUnknown when nothing can belong to the app.
func appIsThere(ctx context.Context, tx *sql.Tx, name string) error {
	var one int
	err := tx.QueryRowContext(ctx, `SELECT 1 FROM app WHERE name = $1`, name).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("app %q: %w", name, token.ErrUnknown)
	}
	return err
}
