package server

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/turnpike-rtc/turnpike"

// mayImport is the architecture. A package may import only the packages of ours on
// its line; "internal/door/*" stands for every door. Whatever is missing is forbidden.
var mayImport = map[string][]string{
	// words: pure values
	"token":           {},
	"internal/access": {"token"},
	"internal/media":  {},
	"internal/signal": {},
	// keepers: they know words and nothing else
	"internal/store": {"token", "internal/access", "internal/media"},
	"internal/bus":   {},
	// the gate
	"internal/authority": {"token"},
	"internal/session":   {"token", "internal/access"},
	// the media core
	"internal/rtc": {"internal/media", "internal/hub", "internal/session"},
	// doors
	"internal/door": {},
	"internal/door/*": {"token", "internal/access", "internal/media", "internal/signal",
		"internal/session", "internal/hub", "internal/rtc", "internal/segment", "internal/door"},
	// the public SDKs
	"device": {"token", "internal/media", "internal/signal"},
	"client": {"token", "internal/media", "internal/signal"},
	// the roof
	"console":         {},
	"internal/server": {"*"},
	"cmd/turnpike":    {"token", "device", "client", "internal/server"},
}

// words may not reach the outside world, nor ask what time it is.
var (
	words         = []string{"token", "internal/access", "internal/media", "internal/signal"}
	wordsNever    = []string{"net", "os", "log", "log/slog", "net/http", "os/exec", "database/sql"}
	bannedNames   = []string{"util", "utils", "common", "helper", "helpers", "base", "core", "misc", "shared", "types", "defs", "model", "models", "manager", "internal", "pkg", "lib"}
	bannedEndings = []string{"Manager", "Service", "Helper", "Impl", "Base", "Data", "Info"}
)

const (
	maxPackages  = 17 // besides the doors
	maxFileLines = 500
	maxFuncLines = 80
)

type pkg struct {
	ImportPath   string
	Name         string
	Dir          string
	Doc          string
	GoFiles      []string
	XTestGoFiles []string
	TestGoFiles  []string
	Imports      []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Dir,Doc,GoFiles,TestGoFiles,XTestGoFiles,Imports", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module+"/")
		all = append(all, p)
	}
	return all
}

// forTests reports whether a package serves tests only: it holds nothing else, or says so by its name.
func (p pkg) forTests() bool { return len(p.GoFiles) == 0 || strings.HasSuffix(p.Name, "test") }

func (p pkg) isDoor() bool { return strings.HasPrefix(p.ImportPath, "internal/door/") }

func (p pkg) isExample() bool { return strings.HasPrefix(p.ImportPath, "examples/") }

// files parses the package's own sources.
func (p pkg) files(t *testing.T) (*token.FileSet, []*ast.File) {
	t.Helper()
	set := token.NewFileSet()
	var all []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return set, all
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		if p.forTests() || p.isExample() {
			continue
		}
		allowed, ok := mayImport[p.ImportPath]
		if !ok && p.isDoor() {
			allowed, ok = mayImport["internal/door/*"]
		}
		if !ok {
			t.Errorf("package %s has no line in mayImport", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			i, ours := strings.CutPrefix(i, module+"/")
			if ours && !slices.Contains(allowed, i) && !slices.Contains(allowed, "*") {
				t.Errorf("%s may not import %s", p.ImportPath, i)
			}
		}
	}
}

func TestWordsStayPure(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains(words, p.ImportPath) {
			continue
		}
		for _, i := range p.Imports {
			if slices.Contains(wordsNever, i) {
				t.Errorf("%s is made of pure values and may not import %s", p.ImportPath, i)
			}
		}
		set, files := p.files(t)
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && s.Sel.Name == "Now" {
						t.Errorf("%s: take the time as an argument", set.Position(s.Pos()))
					}
				}
				return true
			})
		}
	}
}

func TestPackagesAreFewNamedAndDocumented(t *testing.T) {
	n := 0
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		if slices.Contains(bannedNames, p.Name) {
			t.Errorf("%s: %q says nothing about what is inside", p.ImportPath, p.Name)
		}
		if !p.forTests() && !p.isDoor() && !p.isExample() {
			n++
		}
	}
	if n > maxPackages {
		t.Errorf("%d packages besides the doors, at most %d", n, maxPackages)
	}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	for _, p := range packages(t) {
		set, files := p.files(t)
		for _, f := range files {
			if n := set.File(f.Pos()).LineCount(); n > maxFileLines {
				t.Errorf("%s has %d lines, at most %d", set.Position(f.Pos()).Filename, n, maxFileLines)
			}
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if fn.Name.Name == "init" && fn.Recv == nil {
					t.Errorf("%s: no init functions", set.Position(fn.Pos()))
				}
				if n := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1; n > maxFuncLines {
					t.Errorf("%s: %s has %d lines, at most %d", set.Position(fn.Pos()), fn.Name.Name, n, maxFuncLines)
				}
			}
		}
	}
}

func TestExportedNamesAreDocumentedAndPlain(t *testing.T) {
	for _, p := range packages(t) {
		set, files := p.files(t)
		for _, f := range files {
			for _, d := range f.Decls {
				for _, n := range exported(d) {
					if !n.documented {
						t.Errorf("%s: %s has no comment", set.Position(n.pos), n.name)
					}
					for _, end := range bannedEndings {
						if n.isType && n.name != end && strings.HasSuffix(n.name, end) {
							t.Errorf("%s: %s ends in %q, which says nothing", set.Position(n.pos), n.name, end)
						}
					}
				}
			}
		}
	}
}

type name struct {
	name               string
	pos                token.Pos
	documented, isType bool
}

// exported lists the exported names a declaration makes. Methods of unexported
// types do not count, and one comment may cover a group of values.
func exported(d ast.Decl) []name {
	var all []name
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || receiver(d).IsExported()) && !wellKnown(d.Name.Name) {
			all = append(all, name{d.Name.Name, d.Pos(), d.Doc != nil, false})
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					all = append(all, name{s.Name.Name, s.Pos(), d.Doc != nil || s.Doc != nil || s.Comment != nil, true})
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() {
						all = append(all, name{n.Name, n.Pos(), d.Doc != nil || s.Doc != nil || s.Comment != nil, false})
					}
				}
			}
		}
	}
	return all
}

// wellKnown are the methods whose meaning the standard library fixes.
func wellKnown(method string) bool {
	return slices.Contains([]string{"Error", "String", "Unwrap", "Is", "As", "MarshalJSON", "UnmarshalJSON",
		"MarshalText", "UnmarshalText", "Len", "Less", "Swap", "ServeHTTP"}, method)
}

func receiver(d *ast.FuncDecl) *ast.Ident {
	e := d.Recv.List[0].Type
	if s, ok := e.(*ast.StarExpr); ok {
		e = s.X
	}
	if g, ok := e.(*ast.IndexExpr); ok {
		e = g.X
	}
	return e.(*ast.Ident)
}

func TestPackageVariablesAreErrorsOrTables(t *testing.T) {
	for _, p := range packages(t) {
		if p.forTests() {
			continue
		}
		set, files := p.files(t)
		for _, f := range files {
			for _, d := range f.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, s := range g.Specs {
					for i, n := range s.(*ast.ValueSpec).Names {
						if v := s.(*ast.ValueSpec); n.Name != "_" && (i >= len(v.Values) || !isTable(v.Values[i])) && !embedded(g, v) {
							t.Errorf("%s: package variable %s is neither an error nor a compiled table", set.Position(n.Pos()), n.Name)
						}
					}
				}
			}
		}
	}
}

// isTable accepts what is computed once and never changes: literals and what the
// standard library compiles from them.
func isTable(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit, *ast.BasicLit:
		return true
	case *ast.UnaryExpr:
		return isTable(e.X)
	case *ast.CallExpr:
		s, ok := e.Fun.(*ast.SelectorExpr)
		return ok && slices.Contains([]string{"New", "Errorf", "MustCompile", "NewReplacer", "Strict", "MustParsePrefix", "MustParse"}, s.Sel.Name)
	}
	return false
}

// embedded reports whether the compiler fills the variable (go:embed, -ldflags).
func embedded(g *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, v.Doc} {
		if doc != nil && strings.Contains(rawText(doc), "go:embed") {
			return true
		}
	}
	return false
}

func rawText(g *ast.CommentGroup) string {
	var b strings.Builder
	for _, c := range g.List {
		b.WriteString(c.Text)
	}
	return b.String()
}

func TestEveryDoorIsListedAndExamined(t *testing.T) {
	listed := map[string]bool{}
	for _, e := range doorList() {
		listed[e.name] = true
	}
	for _, p := range packages(t) {
		door := strings.TrimPrefix(p.ImportPath, "internal/door/")
		if !p.isDoor() || p.forTests() {
			continue
		}
		if !listed[door] {
			t.Errorf("door %s is not in doorList", door)
		}
		if doorsWithoutMedia[door] {
			continue
		}
		sat := slices.ContainsFunc(slices.Concat(p.TestGoFiles, p.XTestGoFiles), func(file string) bool {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			return err == nil && strings.Contains(string(text), "doortest.Run(")
		})
		if !sat {
			t.Errorf("door %s does not sit the exam (doortest.Run)", door)
		}
	}
}

// doorsWithoutMedia let nobody in for media, so the exam does not apply to them.
var doorsWithoutMedia = map[string]bool{"api": true}
