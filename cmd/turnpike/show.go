package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// json writes one value as indented JSON.
func (sh *shell) json(v any) error {
	e := json.NewEncoder(sh.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// line writes one value as JSON on one line, for scripts.
func (sh *shell) line(v any) error {
	e := json.NewEncoder(sh.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table writes rows under a head. An empty cell is shown as "-".
func (sh *shell) table(head string, rows [][]string) error {
	w := tabwriter.NewWriter(sh.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(head, " ", "\t"))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = plain(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// card writes one thing as names and values.
func (sh *shell) card(pairs ...string) error {
	w := tabwriter.NewWriter(sh.out, 0, 8, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(w, "%s\t%s\n", pairs[i], plain(pairs[i+1]))
	}
	return w.Flush()
}

// plain keeps text of outside origin from moving the cursor, breaking a row or turning
// the direction of what follows.
func plain(cell string) string {
	if cell == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return '?'
		}
		return r
	}, cell)
}

// when writes a moment in local time, and nothing for the zero time.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
