//go:build bench

package test

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// chart is a picture of one or more curves, drawn as SVG that is legible on light and
// on dark pages.
type chart struct {
	title  string
	x, y   string  // what the axes show, with the unit
	logX   bool    // equal steps of x mean equal factors; every x of the first curve is labelled
	top    float64 // where y ends; 0: where the curves do
	curves []curve
	limits []limit
}

// curve is one line of a chart. Its points are in the order of x.
type curve struct {
	label  string
	points []point
	dots   bool // mark the points
}

// point is a median with its lowest and highest run; low and high may equal y.
type point struct{ x, y, low, high float64 }

// limit is an aim: a line across the picture, at a y, or at an x when upright.
type limit struct {
	label   string
	at      float64
	upright bool
}

// Size of a chart, and of the margins around its plot, in pixels.
const (
	chartWidth, chartHeight                       = 720, 380
	marginLeft, marginRight, marginTop, marginLow = 70, 20, 64, 52
)

const chartStyle = `
  svg { --paper: #ffffff; --ink: #1f2328; --grid: #d8dee4; --aim: #c62828; }
  .c0 { --line: #0b62c4; } .c1 { --line: #b35900; } .c2 { --line: #1a7f37; } .c3 { --line: #8250df; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #0d1117; --ink: #e6edf3; --grid: #30363d; --aim: #ff7b72; }
    .c0 { --line: #6cb6ff; } .c1 { --line: #f0a24a; } .c2 { --line: #57d27a; } .c3 { --line: #c297ff; }
  }
  text { fill: var(--ink); font: 13px system-ui, sans-serif; }
  .title { font-size: 15px; font-weight: 600; }
  .grid { stroke: var(--grid); }
  .aim { stroke: var(--aim); stroke-width: 1.5; stroke-dasharray: 6 4; }
  text.aim { stroke: none; fill: var(--aim); }
  .line { fill: none; stroke: var(--line); stroke-width: 2; stroke-linejoin: round; }
  .band { fill: var(--line); opacity: .18; }
  .dot, .key { fill: var(--line); }
`

// svg draws the chart.
func (c chart) svg() string {
	p := c.plan()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img">`+"\n",
		chartWidth, chartHeight)
	fmt.Fprintf(&b, "<title>%s</title>\n<style>%s</style>\n", html.EscapeString(c.title), chartStyle)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="6" style="fill: var(--paper)"/>`+"\n", chartWidth, chartHeight)
	text(&b, marginLeft, 24, "title", "start", c.title)
	c.drawAxes(&b, p)
	for i, one := range c.curves {
		one.draw(&b, p, i)
	}
	c.drawKey(&b)
	for _, l := range c.limits {
		l.draw(&b, p, c.endsAbove(l.at))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// plan says where a value is on the picture.
type plan struct {
	logX         bool
	xMin, xMax   float64
	yMax         float64
	xStep, yStep float64
}

func (p plan) x(v float64) float64 {
	low, high := p.xMin, p.xMax
	if p.logX {
		low, high, v = math.Log(low), math.Log(high), math.Log(v)
	}
	return marginLeft + (v-low)/(high-low)*(chartWidth-marginLeft-marginRight)
}

func (p plan) y(v float64) float64 {
	return chartHeight - marginLow - v/p.yMax*(chartHeight-marginTop-marginLow)
}

// plan makes room for every point and limit; y begins at 0, so that heights compare.
func (c chart) plan() plan {
	p := plan{logX: c.logX, xMin: math.Inf(1), xMax: math.Inf(-1)}
	for _, one := range c.curves {
		for _, at := range one.points {
			p.xMin, p.xMax, p.yMax = min(p.xMin, at.x), max(p.xMax, at.x), max(p.yMax, at.y, at.high)
		}
	}
	for _, l := range c.limits {
		if l.upright {
			p.xMax = max(p.xMax, l.at)
		} else {
			p.yMax = max(p.yMax, l.at)
		}
	}
	if !c.logX {
		p.xMin = 0
	}
	p.xMax = max(p.xMax, p.xMin*1.001, p.xMin+1e-9)
	p.xStep, p.yStep = roundStep(p.xMax-p.xMin), roundStep(p.yMax)
	p.yMax = math.Ceil(p.yMax*1.02/p.yStep) * p.yStep
	if c.top > 0 {
		p.yMax = c.top
	}
	return p
}

// roundStep divides a span into some five steps of 1, 2 or 5 times a power of ten.
func roundStep(span float64) float64 {
	rough := span / 5
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, n := range []float64{1, 2, 5} {
		if n*power >= rough {
			return n * power
		}
	}
	return 10 * power
}

func (c chart) drawAxes(b *strings.Builder, p plan) {
	for v := 0.0; v <= p.yMax*1.0001; v += p.yStep {
		line(b, "grid", marginLeft, p.y(v), chartWidth-marginRight, p.y(v))
		text(b, marginLeft-8, p.y(v)+4, "", "end", number(v))
	}
	for _, v := range c.marks(p) {
		line(b, "grid", p.x(v), marginTop, p.x(v), chartHeight-marginLow)
		text(b, p.x(v), chartHeight-marginLow+18, "", "middle", number(v))
	}
	text(b, (marginLeft+chartWidth-marginRight)/2, chartHeight-12, "", "middle", c.x)
	fmt.Fprintf(b, `<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n",
		(marginTop+chartHeight-marginLow)/2, html.EscapeString(c.y))
}

// marks are the values labelled on the x axis.
func (c chart) marks(p plan) (marks []float64) {
	if c.logX {
		for _, at := range c.curves[0].points {
			marks = append(marks, at.x)
		}
		return marks
	}
	for v := p.xMin; v <= p.xMax*1.0001; v += p.xStep {
		marks = append(marks, v)
	}
	return marks
}

// draw draws the curve, and the band between its lowest and highest runs.
func (c curve) draw(b *strings.Builder, p plan, n int) {
	var path, band []string
	for _, at := range c.points {
		path = append(path, place(p, at.x, at.y))
		band = append(band, place(p, at.x, at.high))
	}
	for _, at := range slices.Backward(c.points) {
		band = append(band, place(p, at.x, at.low))
	}
	fmt.Fprintf(b, `<g class="c%d">`+"\n", n%4)
	if slices.ContainsFunc(c.points, func(at point) bool { return at.low != at.high }) {
		fmt.Fprintf(b, `<polygon class="band" points="%s"/>`+"\n", strings.Join(band, " "))
	}
	fmt.Fprintf(b, `<polyline class="line" points="%s"/>`+"\n", strings.Join(path, " "))
	for _, at := range c.points {
		if c.dots {
			fmt.Fprintf(b, `<circle class="dot" cx="%.1f" cy="%.1f" r="3.5"/>`+"\n", p.x(at.x), p.y(at.y))
		}
	}
	b.WriteString("</g>\n")
}

func place(p plan, x, y float64) string { return fmt.Sprintf("%.1f,%.1f", p.x(x), p.y(y)) }

// drawKey names the curves in one row below the title.
func (c chart) drawKey(b *strings.Builder) {
	at := float64(marginLeft)
	for i, one := range c.curves {
		fmt.Fprintf(b, `<rect class="key c%d" x="%.0f" y="40" width="14" height="4" rx="2"/>`+"\n", i%4, at)
		text(b, at+20, 46, "", "start", one.label)
		at += 20 + 7.2*float64(len(one.label)) + 22
	}
}

// endsAbove reports whether a curve ends above y, where the words of a limit would be.
func (c chart) endsAbove(y float64) bool {
	return slices.ContainsFunc(c.curves, func(one curve) bool { return one.points[len(one.points)-1].y >= y })
}

// draw draws the line, with its words above it or, where a curve is, below.
func (l limit) draw(b *strings.Builder, p plan, below bool) {
	if l.upright {
		line(b, "aim", p.x(l.at), marginTop, p.x(l.at), chartHeight-marginLow)
		text(b, p.x(l.at)-6, chartHeight-marginLow-8, "aim", "end", l.label)
		return
	}
	line(b, "aim", marginLeft, p.y(l.at), chartWidth-marginRight, p.y(l.at))
	words := p.y(l.at) - 6
	if below {
		words += 22
	}
	text(b, chartWidth-marginRight-6, words, "aim", "end", l.label)
}

func line(b *strings.Builder, class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
}

func text(b *strings.Builder, x, y float64, class, anchor, words string) {
	fmt.Fprintf(b, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", class, x, y, anchor, html.EscapeString(words))
}

// number writes a value as people do: 20,000 and 0.8.
func number(v float64) string {
	if math.Abs(v) < 10 {
		return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
	}
	digits := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// distribution turns measured values into a curve of the share that is not above x.
func distribution(label string, values []float64) curve {
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare)
	c := curve{label: label}
	for i, v := range sorted {
		share := 100 * float64(i+1) / float64(len(sorted))
		c.points = append(c.points, point{v, share, share, share})
	}
	return c
}
