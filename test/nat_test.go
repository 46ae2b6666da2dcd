//go:build e2e

package test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A network of five hosts on this machine: the server in the open, and a device and
// a viewer, each behind a NAT of its own. The NATs give an inner address and port the
// same outer port towards everyone (RFC 4787, endpoint-independent mapping) and let in
// only whom the inner host has written to; without STUN, two such hosts never meet.
//
//	device 10.1.0.2 -- NAT 203.0.113.10 --+-- NAT 203.0.113.20 -- viewer 10.2.0.2
//	                            server 203.0.113.1
const natNetwork = `set -e
for h in net nata natb dev view; do ip netns add $P$h; ip -n $P$h link set lo up; done
ip -n ${P}net link add br0 type bridge
ip -n ${P}net addr add 203.0.113.1/24 dev br0
ip -n ${P}net link set br0 up
nat() { # NAT INNER OUTER-ADDRESS INNER-NETWORK
  ip -n $P$1 link add wan type veth peer name $1 netns ${P}net
  ip -n ${P}net link set $1 master br0 up
  ip -n $P$1 addr add $3/24 dev wan
  ip -n $P$1 link set wan up
  ip -n $P$1 link add lan type veth peer name eth0 netns $P$2
  ip -n $P$1 addr add $4.1/24 dev lan
  ip -n $P$1 link set lan up
  ip -n $P$2 addr add $4.2/24 dev eth0
  ip -n $P$2 link set eth0 up
  ip -n $P$2 route add default via $4.1
  ip netns exec $P$1 sysctl -qw net.ipv4.ip_forward=1
  ip netns exec $P$1 nft -f - <<NFT
table ip nat {
  chain out {
    type nat hook postrouting priority srcnat
    oifname "wan" masquerade
  }
}
table ip filter {
  chain in {
    type filter hook input priority filter
    iifname "wan" udp dport 1024-65535 drop
  }
}
NFT
}
nat nata dev 203.0.113.10 10.1.0
nat natb view 203.0.113.20 10.2.0
`

// inNetwork makes the network, and returns how to make a command that runs on one of its hosts.
func inNetwork(t *testing.T) func(host, program string, args ...string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: connections through NATs. Making a network needs root")
	}
	prefix := fmt.Sprintf("tp%d", os.Getpid())
	t.Cleanup(func() {
		for _, host := range []string{"net", "nata", "natb", "dev", "view"} {
			exec.Command("ip", "netns", "del", prefix+host).Run()
		}
	})
	cmd := exec.Command("bash", "-c", natNetwork)
	cmd.Env = append(os.Environ(), "P="+prefix)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot make the network (it needs iproute2 and nftables): %v\n%s", err, out)
	}
	return func(host, program string, args ...string) *exec.Cmd {
		return exec.Command("ip", append([]string{"netns", "exec", prefix + host, program}, args...)...)
	}
}

// run starts a command that ends with the test, and shows what it said if that fails.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	log := &logBuffer{}
	cmd.Stderr = log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(cmd.Args[4:6], " "), tail(log.String(), 20))
		}
	})
}

func TestDeviceAndViewerMeetThroughTheirNATs(t *testing.T) {
	on := inNetwork(t)
	viewer := filepath.Join(t.TempDir(), "viewer")
	if out, err := exec.Command("go", "build", "-o", viewer, "../examples/viewer").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the viewer: %v\n%s", err, out)
	}
	const server = "http://203.0.113.1:5080"
	n := &node{t: t, dir: t.TempDir()}
	run(t, on("net", binary(t), "serve", "--data", n.dir, "--http", "203.0.113.1:5080",
		"--media-udp", "203.0.113.1:5082", "--media-tcp", ""))
	eventually(t, "the server", func() bool {
		_, err := os.Stat(filepath.Join(n.dir, "turnpike.sock"))
		return err == nil
	})
	h := n.newHouse("garage", "CAM01")
	run(t, on("dev", binary(t), "device", "run", "--license", h.License, "--server", server, "--video", "../cmd/turnpike/demo/clip.h264"))
	h.waitOnline(n)

	watching := on("view", viewer, server, "CAM01", h.token(n))
	picture, write := io.Pipe()
	watching.Stdout = write
	run(t, watching)
	seen := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, picture, 100_000) // two seconds of the clip and more
		seen <- err
	}()
	start := time.Now()
	select {
	case err := <-seen:
		if err != nil {
			t.Error(err)
		}
		t.Logf("100 kB of video came straight through both NATs within %v", time.Since(start).Round(10*time.Millisecond))
	case <-time.After(patient):
		t.Error("no video came through the NATs")
	}
	go io.Copy(io.Discard, picture) // so that the viewer can be ended
}
