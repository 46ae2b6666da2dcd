package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// LoadMasterKey returns the key that encrypts secrets at rest: fromEnv if it is given,
// as 64 hex digits or as base64 of 32 bytes, or else the content of the file master.key
// in dir, which is made with mode 0600 when it is missing. A file that others may read
// is refused.
func LoadMasterKey(dir string, fromEnv string) ([32]byte, error) {
	if fromEnv != "" {
		key, err := parseMasterKey(fromEnv)
		if err != nil {
			return key, fmt.Errorf("cannot read master key from the environment: %w", err)
		}
		return key, nil
	}
	file := filepath.Join(dir, "master.key")
	key, err := readMasterKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createMasterKey(dir, file); err == nil {
			key, err = readMasterKey(file)
		}
	}
	if err != nil {
		return key, fmt.Errorf("cannot load master key: %w", err)
	}
	return key, nil
}

func readMasterKey(file string) ([32]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return [32]byte{}, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return [32]byte{}, err
	}
	if mode := stat.Mode().Perm(); mode&^0o600 != 0 {
		return [32]byte{}, fmt.Errorf("%s has mode %04o, others may read it: want 0600", file, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, 200))
	if err != nil {
		return [32]byte{}, err
	}
	key, err := parseMasterKey(string(text))
	if err != nil {
		return key, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// parseMasterKey reads hex or any base64. Its error never quotes the text.
func parseMasterKey(text string) (key [32]byte, err error) {
	text = strings.TrimSpace(text)
	decode := base64.RawStdEncoding.DecodeString
	switch {
	case len(text) == 64:
		decode = hex.DecodeString
	case strings.ContainsAny(text, "-_"):
		decode = base64.RawURLEncoding.DecodeString
	}
	raw, err := decode(strings.TrimRight(text, "="))
	if err != nil || len(raw) != len(key) {
		return key, errors.New("master key must be 32 bytes, as 64 hex digits or as base64")
	}
	return [32]byte(raw), nil
}

// createMasterKey writes a new key. It appears under its name complete and synced or
// not at all, and of two processes that do it together both end with the same one.
func createMasterKey(dir, file string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	f, err := os.CreateTemp(dir, "master.key.*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func newAEAD(key [32]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sealed marks the form of an encrypted text: AES-256-GCM, a random nonce of 12 bytes
// in front, in base64.
const sealed = "g1:"

// seal encrypts a secret. The owner ("key:ID", "device:ID") is authenticated with it,
// so that a secret moved to another record does not open.
func (s *Store) seal(owner, secret string) string {
	return sealed + base64.RawStdEncoding.EncodeToString(s.aead.Seal(nil, nil, []byte(secret), []byte(owner)))
}

// unseal reverses seal. It fails for a wrong master key and for a changed text.
func (s *Store) unseal(owner, text string) (string, error) {
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(text, sealed))
	if err != nil || !strings.HasPrefix(text, sealed) {
		return "", fmt.Errorf("cannot decrypt secret of %s: form is not known", owner)
	}
	secret, err := s.aead.Open(nil, nil, raw, []byte(owner))
	if err != nil {
		return "", fmt.Errorf("cannot decrypt secret of %s: %w", owner, ErrMasterKey)
	}
	return string(secret), nil
}

// checkMasterKey leaves a known text in a new database and decrypts that of an old one.
func (s *Store) checkMasterKey(ctx context.Context) error {
	const owner, known = "master", "turnpike"
	if _, err := affect(ctx, s.db.write,
		`INSERT INTO master_key (id, sealed) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`, s.seal(owner, known)); err != nil {
		return err
	}
	var text string
	if err := s.db.read.QueryRowContext(ctx, `SELECT sealed FROM master_key WHERE id = 1`).Scan(&text); err != nil {
		return err
	}
	if got, err := s.unseal(owner, text); err != nil || got != known {
		return ErrMasterKey
	}
	return nil
}
