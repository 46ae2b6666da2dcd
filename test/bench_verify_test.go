//go:build bench

package test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// verifyAim is the most a verification may cost, in bare HMACs.
const verifyAim = 2.0

// TestBenchVerify compares reading and verifying one connect token with the two HMACs
// it cannot do without. It runs the two benchmarks of package token by turns, each in
// a process of its own, and divides neighbours: what slows the machine down for a
// while slows both.
func TestBenchVerify(t *testing.T) {
	program := tokenBenchmarks(t)
	r := newReport(t, "verify", "", "median (min–max)", "allocations", "aim", "")
	var verify, bare []float64
	var verifyAllocs, bareAllocs string
	n := rounds(41)
	for i := range n {
		v, b := runBenchmark(t, program, "VerifyConnect"), runBenchmark(t, program, "BareHMACs")
		verify, bare = append(verify, v.ns), append(bare, b.ns)
		verifyAllocs, bareAllocs = v.allocs, b.allocs
		if i%10 > 0 {
			continue
		}
		progress("verify %d of %d: %.0f ns, bare HMACs %.0f ns, ratio %.2f", i+1, n, v.ns, b.ns, v.ns/b.ns)
	}
	ratio := spreadOf(ratios(verify, bare))
	r.row("verify one token", spreadOf(verify).String()+" ns", verifyAllocs, "", "")
	r.row("the bare HMACs", spreadOf(bare).String()+" ns", bareAllocs, "", "")
	r.row("**ratio**", "**"+ratio.String()+"**", "", fmt.Sprintf("≤ %g", verifyAim), verdict(ratio.median <= verifyAim))
	r.charts = []namedChart{{"verify", chart{
		title:  "One connect token verified, in bare HMACs",
		x:      "round",
		y:      "ratio",
		curves: []curve{inOrder("verify ÷ bare HMACs", ratios(verify, bare))},
		limits: []limit{{label: "aim: at most 2", at: verifyAim}},
	}}}
	r.write(t)
}

// inOrder is a curve of runs in the order they were made.
func inOrder(label string, runs []float64) curve {
	c := curve{label: label, dots: true}
	for i, v := range runs {
		c.points = append(c.points, point{float64(i + 1), v, v, v})
	}
	return c
}

// tokenBenchmarks builds the benchmarks of package token.
func tokenBenchmarks(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "token.test")
	progress("building the benchmarks of package token")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "../token").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the benchmarks: %v\n%s", err, out)
	}
	return program
}

// cost is what one benchmark reports for one operation.
type cost struct {
	ns     float64
	allocs string
}

func runBenchmark(t *testing.T, program, name string) cost {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "-test.run=^$", "-test.bench=^Benchmark"+name+"$", "-test.benchmem",
		"-test.benchtime=100ms").CombinedOutput()
	if err != nil {
		t.Fatalf("benchmark %s: %v\n%s", name, err, out)
	}
	for line := range strings.Lines(string(out)) {
		var c cost
		var times, bytes, allocs int
		_, figures, ok := strings.Cut(line, "\t")
		if !ok || !strings.HasPrefix(line, "Benchmark"+name) {
			continue
		}
		if _, err := fmt.Sscanf(figures, "%d %f ns/op %d B/op %d allocs/op", &times, &c.ns, &bytes, &allocs); err == nil {
			c.allocs = fmt.Sprintf("%d, %s B", allocs, number(float64(bytes)))
			return c
		}
	}
	t.Fatalf("benchmark %s reports nothing:\n%s", name, out)
	return cost{}
}
