package store_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

// same compares what came back with what went in.
func same(t testing.TB, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// value ends the test at an error and hands on the value otherwise.
func value[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func TestKeepsApps(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		full := token.App{Name: "shop", Created: start(),
			Policy:   token.Policy{Skew: 10 * time.Second, MaxTTL: time.Hour, OneKey: true, EndExpiry: true},
			Identity: token.Identity{Issuer: "https://id.example", Audience: "turnpike", JWKSURL: "https://id.example/jwks"}}
		plain := token.App{Name: "bare", Created: start()}
		check(t, s.CreateApp(ctx, full))
		check(t, s.CreateApp(ctx, plain))
		want(t, s.CreateApp(ctx, token.App{Name: "shop"}), store.ErrExists)
		same(t, value(s.App(ctx, "shop"))(t), full)
		same(t, value(s.Apps(ctx))(t), []token.App{plain, full})
		same(t, value(s.AppByIssuer(ctx, "https://id.example"))(t), full)

		full.Policy, full.Identity.Issuer = token.Policy{}, "https://other.example"
		check(t, s.SetApp(ctx, full))
		same(t, value(s.App(ctx, "shop"))(t), full)
		want(t, s.SetApp(ctx, token.App{Name: "none"}), token.ErrUnknown)
		_, err := s.App(ctx, "none")
		want(t, err, token.ErrUnknown)
	})
}

func TestAnIssuerBelongsToOneApp(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		identity := token.Identity{Issuer: "https://id.example"}
		check(t, s.CreateApp(ctx, token.App{Name: "shop", Identity: identity}))
		check(t, s.SetApp(ctx, token.App{Name: "shop", Identity: identity})) // its own is no conflict
		want(t, s.CreateApp(ctx, token.App{Name: "thief", Identity: identity}), store.ErrExists)
		check(t, s.CreateApp(ctx, token.App{Name: "thief"}))
		want(t, s.SetApp(ctx, token.App{Name: "thief", Identity: identity}), store.ErrExists)
		_, err := s.AppByIssuer(ctx, "") // most apps have none
		want(t, err, token.ErrUnknown)
	})
}

func TestKeepsKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		addApp(t, ctx, s, "shop")
		old := token.Key{ID: "k1", App: "shop", Secret: "a secret of k1", Created: at.Add(-time.Hour)}
		young := token.Key{ID: "k2", App: "shop", Secret: "a secret of k2", Created: at, Retires: at.Add(time.Hour)}
		check(t, s.AddKey(ctx, old))
		check(t, s.AddKey(ctx, young))
		want(t, s.AddKey(ctx, old), store.ErrExists)
		want(t, s.AddKey(ctx, token.Key{ID: "k3", App: "none"}), token.ErrUnknown)
		same(t, value(s.Key(ctx, "k1"))(t), old)
		same(t, value(s.Keys(ctx, "shop"))(t), []token.Key{young, old})
		same(t, value(s.Keys(ctx, "none"))(t), []token.Key{})

		check(t, s.RetireKey(ctx, "k1", at.Add(time.Minute)))
		check(t, s.RevokeKey(ctx, "k2", at))
		old.Retires, young.Revoked = at.Add(time.Minute), true
		same(t, value(s.Keys(ctx, ""))(t), []token.Key{young, old})
		want(t, s.RetireKey(ctx, "none", at), token.ErrUnknown)
		want(t, s.RevokeKey(ctx, "none", at), token.ErrUnknown)
		_, err := s.Key(ctx, "none")
		want(t, err, token.ErrUnknown)
	})
}

func TestKeepsDevices(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		addApp(t, ctx, s, "shop")
		addApp(t, ctx, s, "zoo")
		cam := token.Device{ID: "cam", App: "shop", Secret: "a secret of cam", Created: at}
		check(t, s.AddDevice(ctx, cam))
		want(t, s.AddDevice(ctx, token.Device{ID: "cam", App: "zoo"}), store.ErrExists)
		want(t, s.AddDevice(ctx, token.Device{ID: "x", App: "none"}), token.ErrUnknown)
		same(t, value(s.Device(ctx, "cam"))(t), cam)
		for i := range 5 {
			check(t, s.AddDevice(ctx, token.Device{ID: fmt.Sprintf("d%d", i), App: "zoo", Secret: "12345678"}))
		}
		page := value(s.Devices(ctx, "zoo", "d1", 2))(t)
		if len(page) != 2 || page[0].ID != "d2" || page[1].ID != "d3" || page[0].Secret != "" {
			t.Fatalf("got %+v", page)
		}
		if all := value(s.Devices(ctx, "", "", 0))(t); len(all) != 6 {
			t.Fatalf("got %d of 6 devices", len(all))
		}
		check(t, s.DisableDevice(ctx, "cam", true, at))
		cam.Disabled = true
		same(t, value(s.Device(ctx, "cam"))(t), cam)
		check(t, s.DisableDevice(ctx, "cam", false, at))
		check(t, s.RemoveDevice(ctx, "cam", at))
		_, err := s.Device(ctx, "cam")
		want(t, err, token.ErrUnknown)
		want(t, s.RemoveDevice(ctx, "cam", at), token.ErrUnknown)
		want(t, s.DisableDevice(ctx, "cam", true, at), token.ErrUnknown)
		want(t, s.ReleaseDevice(ctx, "cam"), token.ErrUnknown)
	})
}

func TestTheFirstStartBindsADevice(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		addApp(t, ctx, s, "shop")
		check(t, s.AddDevice(ctx, token.Device{ID: "cam", App: "shop", Secret: "12345678"}))
		bound := race(16, func(i int) string {
			holds, err := s.BindDevice(ctx, "cam", fmt.Sprint("mac", i))
			if err != nil {
				t.Error(err)
			}
			return holds
		})
		for _, b := range bound {
			if b == "" || b != bound[0] {
				t.Fatalf("bound to several: %v", bound)
			}
		}
		check(t, s.ReleaseDevice(ctx, "cam"))
		same(t, value(s.BindDevice(ctx, "cam", "new"))(t), "new")
		same(t, value(s.BindDevice(ctx, "cam", "other"))(t), "new")
		_, err := s.BindDevice(ctx, "none", "mac")
		want(t, err, token.ErrUnknown)
	})
}

func TestKeepsRules(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		addApp(t, ctx, s, "shop")
		one := access.Rule{App: "shop", Subject: "ann", Action: access.Connect, Resource: "device:cam", Created: start()}
		two := one
		two.Subject = "bob"
		check(t, s.AddRule(ctx, two))
		check(t, s.AddRule(ctx, one))
		want(t, s.AddRule(ctx, one), store.ErrExists)
		want(t, s.AddRule(ctx, access.Rule{App: "none"}), token.ErrUnknown)
		same(t, value(s.Rules(ctx, "shop"))(t), []access.Rule{one, two})
		same(t, value(s.Rules(ctx, ""))(t), []access.Rule{one, two})
		check(t, s.RemoveRule(ctx, access.Rule{App: "shop", Subject: "ann", Action: access.Connect, Resource: "device:cam"}))
		want(t, s.RemoveRule(ctx, one), token.ErrUnknown)
		same(t, value(s.Rules(ctx, "shop"))(t), []access.Rule{two})
	})
}

func TestRecordsSurviveARestart(t *testing.T) {
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			ctx, c := t.Context(), config(t)
			s := value(store.Open(ctx, c))(t)
			addApp(t, ctx, s, "shop")
			check(t, s.AddKey(ctx, token.Key{ID: "k1", App: "shop", Secret: "a secret of k1"}))
			check(t, s.Close())
			check(t, s.Close()) // does no harm
			want(t, s.CreateApp(ctx, token.App{Name: "late"}), store.ErrClosed)
			want(t, s.Note(ctx, access.Event{}), store.ErrClosed)
			_, err := s.App(ctx, "shop")
			want(t, err, store.ErrClosed)

			s = storetest.Open(t, c)
			same(t, value(s.Key(ctx, "k1"))(t).Secret, "a secret of k1")
			same(t, value(s.Revision(ctx))(t), int64(2))
		})
	}
}

func TestRefusesAnUnknownKindOfDatabase(t *testing.T) {
	_, err := store.Open(t.Context(), store.Config{DSN: "mysql://root:hush-hush@db/turnpike"})
	if err == nil {
		t.Fatal("it opens")
	}
	noSecret(t, err)
}
