//go:build bench

package test

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
)

// The measurements behind docs/benchmarks.md. scripts/bench.sh runs them; each prints
// what it does while it does it, and writes its own part of the page. With QUICK set
// they measure less and leave the page alone.

func TestMain(m *testing.M) {
	if !strings.Contains(os.Getenv("TURNPIKE_BENCH"), "admit") {
		os.Exit(m.Run()) // PostgreSQL would only be a noisy neighbour
	}
	os.Exit(storetest.Main(m))
}

// page is the file the measurements are written to; pictures lie beside it.
const (
	page     = "../docs/benchmarks.md"
	pictures = "../docs/benchmarks"
)

// quick reports whether a short run was asked for.
func quick() bool { return os.Getenv("QUICK") != "" && os.Getenv("QUICK") != "0" }

// rounds is how many times an alternating measurement is repeated.
func rounds(full int) int {
	if quick() {
		return 3
	}
	return full
}

// progress tells whoever waits what is going on.
func progress(format string, args ...any) {
	fmt.Printf("  %s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// spread is what several runs of one thing gave.
type spread struct{ median, low, high float64 }

func spreadOf(runs []float64) spread {
	sorted := slices.SortedFunc(slices.Values(runs), cmp.Compare)
	return spread{percentile(sorted, 50), sorted[0], sorted[len(sorted)-1]}
}

// percentile returns the value that p per cent of the sorted ones do not exceed
// (nearest rank); of an even number of runs the median is the mean of the middle two.
func percentile(sorted []float64, p float64) float64 {
	n := len(sorted)
	if p == 50 && n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	rank := int(p / 100 * float64(n))
	if float64(rank) < p/100*float64(n) {
		rank++
	}
	return sorted[max(rank, 1)-1]
}

// at makes a point of a curve.
func (s spread) at(x float64) point { return point{x, s.median, s.low, s.high} }

// String writes "1.56 (1.52–1.60)".
func (s spread) String() string {
	return fmt.Sprintf("%s (%s–%s)", number(s.median), number(s.low), number(s.high))
}

// ratios divides run by run: those that were made next to each other.
func ratios(of, by []float64) []float64 {
	r := make([]float64, len(of))
	for i := range of {
		r[i] = of[i] / by[i]
	}
	return r
}

// verdict says whether an aim is met.
func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

// report is one measurement's part of the page.
type report struct {
	name   string  // of the measurement, as scripts/bench.sh has it
	others float64 // cores that other programs took just before
	notes  []string
	header []string
	rows   [][]string
	charts []namedChart
}

type namedChart struct {
	file  string // without the ending
	chart chart
}

// newReport begins a measurement.
func newReport(t *testing.T, name string, header ...string) *report {
	t.Helper()
	r := &report{name: name, others: othersLoad(t), header: header}
	if r.others > 0.2 {
		progress("%s: other programs take %.1f of %d cores: the figures will tell", name, r.others, runtime.NumCPU())
	}
	return r
}

func (r *report) row(cells ...string) { r.rows = append(r.rows, cells) }

// write prints the table, and puts it with its pictures on the page between the
// markers of this measurement, unless this is a quick run.
func (r *report) write(t *testing.T) {
	t.Helper()
	body := r.markdown()
	fmt.Printf("\n%s\n", body)
	for _, c := range r.charts {
		drawing := c.chart.svg()
		if err := wellFormed(drawing); err != nil {
			t.Fatalf("picture %s: %v", c.file, err)
		}
		if quick() {
			continue
		}
		if err := os.WriteFile(filepath.Join(pictures, c.file+".svg"), []byte(drawing), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if quick() {
		progress("a quick run: %s is left as it is", filepath.Base(page))
		return
	}
	if err := replaceBetween(page, r.name, body); err != nil {
		t.Fatal(err)
	}
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s on %s; other programs took %.1f cores just before.\n",
		time.Now().UTC().Format(time.DateOnly), machine(), r.others)
	for _, note := range r.notes {
		fmt.Fprintf(&b, "%s\n", note)
	}
	fmt.Fprintf(&b, "\n| %s |\n|%s\n", strings.Join(r.header, " | "), strings.Repeat("---|", len(r.header)))
	for _, cells := range r.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	fmt.Fprintf(&b, "\nAgain: `scripts/bench.sh %s`\n", r.name)
	for _, c := range r.charts {
		fmt.Fprintf(&b, "\n![%s](benchmarks/%s.svg)\n", c.chart.title, c.file)
	}
	return b.String()
}

// replaceBetween puts body between the two marker lines called name.
func replaceBetween(file, name, body string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	open, end := "<!-- measured: "+name+" -->\n", "<!-- end: "+name+" -->"
	before, rest, ok := strings.Cut(string(old), open)
	_, after, found := strings.Cut(rest, end)
	if !ok || !found {
		return fmt.Errorf("%s lacks the markers of %q", file, name)
	}
	return os.WriteFile(file, []byte(before+open+body+end+after), 0o644)
}

func wellFormed(text string) error {
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// machine describes what was measured on, and nothing that names it.
func machine() string {
	return fmt.Sprintf("%d cores (%s), %s memory, %s/%s, %s",
		runtime.NumCPU(), procLine("/proc/cpuinfo", "model name"), memory(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func memory() string {
	var kib float64
	if _, err := fmt.Sscanf(procLine("/proc/meminfo", "MemTotal"), "%f kB", &kib); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

// procLine returns the value of the first line "name : value" of a file of /proc.
func procLine(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// must ends a measurement at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// othersLoad returns how many cores were busy during a second in which nothing of this
// measurement ran.
func othersLoad(t *testing.T) float64 {
	t.Helper()
	before, begin := busyTicks(t), time.Now()
	time.Sleep(time.Second)
	return float64(busyTicks(t)-before) / 100 / time.Since(begin).Seconds() // 100 ticks a second (proc(5))
}

// busyTicks is the time all cores have been at work since the start of the machine.
func busyTicks(t *testing.T) int {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	must(t, err)
	var user, nice, system, idle, wait, irq, softirq int
	_, err = fmt.Sscanf(string(stat), "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &softirq)
	must(t, err)
	return user + nice + system + irq + softirq
}
