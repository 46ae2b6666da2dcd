package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

// secrets are what must never be found outside of memory.
func secrets() []string {
	return []string{"hush-of-the-key-0123456789", "hush-of-the-device-0123456789"}
}

func fill(t testing.TB, ctx context.Context, s *store.Store) {
	t.Helper()
	addApp(t, ctx, s, "shop")
	check(t, s.AddKey(ctx, token.Key{ID: "k1", App: "shop", Secret: secrets()[0]}))
	check(t, s.AddDevice(ctx, token.Device{ID: "cam", App: "shop", Secret: secrets()[1]}))
}

func TestSecretsAreEncryptedInTheFile(t *testing.T) {
	c := storetest.SQLite(t)
	s := storetest.Open(t, c)
	fill(t, t.Context(), s)
	look := func() {
		files := value(filepath.Glob(filepath.Join(c.Dir, "*")))(t)
		if len(files) == 0 {
			t.Fatal("there are no files")
		}
		for _, file := range files {
			plain(t, file, value(os.ReadFile(file))(t))
		}
	}
	look() // with the log
	check(t, s.Close())
	look()
}

func TestSecretsAreEncryptedInADump(t *testing.T) {
	c := storetest.Postgres(t)
	fill(t, t.Context(), storetest.Open(t, c))
	dump, err := exec.Command("pg_dump", "--dbname", c.DSN).CombinedOutput()
	if err != nil {
		t.Fatalf("cannot dump: %v\n%s", err, dump)
	}
	if !bytes.Contains(dump, []byte("cam")) {
		t.Fatal("the device is not in the dump")
	}
	plain(t, "dump", dump)
}

// plain demands that no secret is in data, as it is or encoded.
func plain(t *testing.T, where string, data []byte) {
	t.Helper()
	for _, secret := range secrets() {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))[:20]} {
			if bytes.Contains(data, []byte(form)) {
				t.Errorf("%s holds the secret as %q", where, form)
			}
		}
	}
}

func TestASecretOpensOnlyInItsRecord(t *testing.T) {
	c := storetest.Postgres(t)
	s := storetest.Open(t, c)
	ctx := t.Context()
	fill(t, ctx, s)
	check(t, s.AddDevice(ctx, token.Device{ID: "own", App: "shop", Secret: "known to the thief"}))
	db := value(sql.Open("pgx", c.DSN))(t)
	defer db.Close()
	value(db.ExecContext(ctx, `UPDATE device SET secret = (SELECT secret FROM device WHERE id = 'own') WHERE id = 'cam'`))(t)
	_, err := s.Device(ctx, "cam")
	want(t, err, store.ErrMasterKey)
}

func TestRefusesAWrongMasterKey(t *testing.T) {
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			s := value(store.Open(t.Context(), c))(t)
			check(t, s.Close())
			c.MasterKey[0]++
			_, err := store.Open(t.Context(), c)
			want(t, err, store.ErrMasterKey)
		})
	}
}

func TestMakesAMasterKeyForTheOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	keys := race(16, func(int) [32]byte {
		key, err := store.LoadMasterKey(dir, "")
		if err != nil {
			t.Error(err)
		}
		return key
	})
	for _, key := range keys {
		if key != keys[0] || key == [32]byte{} {
			t.Fatal("several keys were made")
		}
	}
	file := filepath.Join(dir, "master.key")
	same(t, value(os.Stat(file))(t).Mode().Perm(), os.FileMode(0o600))
	same(t, len(value(filepath.Glob(filepath.Join(dir, "*")))(t)), 1)
	same(t, value(store.LoadMasterKey(dir, ""))(t), keys[0])

	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o700} {
		check(t, os.Chmod(file, mode))
		if _, err := store.LoadMasterKey(dir, ""); err == nil || !strings.Contains(err.Error(), "0600") {
			t.Errorf("mode %o: got %v", mode, err)
		}
	}
	check(t, os.Chmod(file, 0o400))
	same(t, value(store.LoadMasterKey(dir, ""))(t), keys[0])
}

func TestReadsTheMasterKeyFromTheEnvironment(t *testing.T) {
	key := [32]byte(bytes.Repeat([]byte{0xfb, 0xf0}, 16)) // base64 has + and /, or - and _
	for _, text := range []string{hex.EncodeToString(key[:]), strings.ToUpper(hex.EncodeToString(key[:])),
		base64.StdEncoding.EncodeToString(key[:]), base64.RawStdEncoding.EncodeToString(key[:]),
		base64.URLEncoding.EncodeToString(key[:]), base64.RawURLEncoding.EncodeToString(key[:]) + "\n"} {
		got, err := store.LoadMasterKey("/nonexistent", text)
		check(t, err)
		same(t, got, key)
	}
	for _, text := range []string{"hush", strings.Repeat("hush", 16), base64.StdEncoding.EncodeToString(key[:31]), " "} {
		_, err := store.LoadMasterKey("/nonexistent", text)
		if err == nil {
			t.Errorf("%q is accepted", text)
			continue
		}
		noSecret(t, err)
	}
}

func TestRefusesADamagedMasterKey(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "hush", strings.Repeat("x", 1000)} {
		check(t, os.WriteFile(filepath.Join(dir, "master.key"), []byte(text), 0o600))
		_, err := store.LoadMasterKey(dir, "")
		if err == nil {
			t.Fatalf("%q is accepted", text)
		}
		noSecret(t, err)
	}
}

func FuzzMasterKey(f *testing.F) {
	for _, seed := range []string{"", "=", strings.Repeat("0", 64), strings.Repeat("A", 43), strings.Repeat("-_", 22), "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" {
			return // means: the file
		}
		key, err := store.LoadMasterKey("/nonexistent", text)
		if err != nil && key != [32]byte{} {
			t.Fatal("a key with an error")
		}
	})
}
