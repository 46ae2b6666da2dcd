package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/token"
)

// admission is one of subject "ann" to device "cam", good in every respect.
func admission(session, spends string, at time.Time) access.Admission {
	return access.Admission{
		Session: session, Door: "device", From: "192.0.2.1:4711", Node: "n1", At: at,
		Grant: access.Grant{App: "shop", Subject: "ann", Resource: "device:cam", Actions: []access.Action{access.Connect},
			TokenID: spends, KeyID: "k1"},
		Spends: spends, SpentTill: at.Add(time.Hour),
	}
}

func TestAdmitsAndSpends(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		_, err := s.Admit(ctx, admission("s1", "t1", at))
		check(t, err)
		_, err = s.Admit(ctx, admission("s2", "t1", at))
		want(t, err, token.ErrSpent)
		_, err = s.Admit(ctx, admission("s1", "t1", at))
		check(t, err)
		check(t, s.Abort(ctx, "s1", "undone", at))
		_, err = s.Admit(ctx, admission("s3", "t1", at))
		check(t, err)
	})
}
