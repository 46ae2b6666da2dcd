package store_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
)

// TestPowerCutForgetsNoAdmission admits on a file system of its own, drops all that
// was not synced, as a power cut does, and presents every acknowledged token again.
// (A killed process proves nothing about that: its writes are still in memory.)
func TestPowerCutForgetsNoAdmission(t *testing.T) {
	needsLoopDevices(t)
	for range 3 {
		image := filepath.Join(t.TempDir(), "disk")
		check(t, os.WriteFile(image, nil, 0o600))
		check(t, os.Truncate(image, 256<<20))
		command(t, "mkfs.ext4", "-q", "-F", image)
		disk := mount(t, image)
		c := storetest.SQLite(t)
		c.Dir = filepath.Join(disk.dir, "data")
		check(t, value(store.Open(t.Context(), c))(t).Close())
		unix.Sync()

		p := startChild(t, c)
		acked := p.await(t, 3000)
		cutPower(t, disk.dir)
		p.kill()
		disk.unmount(t)

		// A copy on a fresh device: another process may still hold the dead one.
		command(t, "cp", "--sparse=always", "--", image, image+".after")
		after := mount(t, image+".after")
		c.Dir = filepath.Join(after.dir, "data")
		s := value(store.Open(t.Context(), c))(t)
		t.Logf("%d admissions were acknowledged", len(acked))
		noneIsGoodAgain(t, s, acked)
		check(t, s.Close())
		after.unmount(t)
	}
}

// needsLoopDevices skips where the test cannot run. Where it can and must, in CI as
// root, it does not.
func needsLoopDevices(t *testing.T) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "it needs root"
	} else if _, err := os.Stat("/dev/loop-control"); err != nil {
		why = "it needs loop devices: " + err.Error()
	} else if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		why = "it needs mkfs.ext4"
	} else if out, err := exec.Command("losetup", "-f").CombinedOutput(); err != nil {
		why = "it needs a free loop device: " + strings.TrimSpace(string(out))
	}
	if why == "" {
		return
	}
	if _, err := os.Stat("/dev/loop-control"); err == nil && os.Geteuid() == 0 && os.Getenv("CI") != "" {
		t.Fatalf("THE POWER-CUT TEST CANNOT RUN: %s", why)
	}
	t.Skipf("THE POWER-CUT TEST DOES NOT RUN HERE: %s", why)
}

// loop is a mounted image.
type loop struct {
	device, dir string
	gone        bool
}

func mount(t *testing.T, image string) *loop {
	t.Helper()
	l := &loop{dir: t.TempDir()}
	l.device = strings.TrimSpace(command(t, "losetup", "--find", "--show", image))
	t.Cleanup(func() { l.unmount(t) })
	command(t, "mount", "-t", "ext4", l.device, l.dir)
	return l
}

func (l *loop) unmount(t *testing.T) {
	t.Helper()
	if l.gone {
		return
	}
	l.gone = true
	command(t, "umount", l.dir)
	command(t, "losetup", "--detach", l.device)
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// cutPower shuts the file system down without writing its journal: ioctl
// EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32), with EXT4_GOING_FLAGS_NOLOGFLUSH
// (Linux, fs/ext4/ext4.h).
func cutPower(t *testing.T, dir string) {
	t.Helper()
	const shutdown, noLogFlush = 0x8004587d, uint32(2)
	d := value(os.Open(dir))(t)
	defer d.Close()
	flags := noLogFlush
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), shutdown, uintptr(unsafe.Pointer(&flags)))
	if errno != 0 {
		t.Fatalf("cannot cut power: %v", errno)
	}
}
