package server

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Option is one setting under its three names. The YAML file knows it by Path,
// the environment by Env, the command line by Flag.
type Option struct {
	Path    string // "media.udp"
	Usage   string // one line for the help text
	Default string // as it would be written
	value   reflect.Value
}

// Flag is the option's name on the command line, without the dashes.
func (o Option) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(o.Path) }

// Env is the option's name in the environment.
func (o Option) Env() string {
	return "TURNPIKE_" + strings.ToUpper(strings.ReplaceAll(o.Path, ".", "_"))
}

// Type is the kind of value, for help texts: "string", "bool", "int", "duration" or
// "list". A flag of type bool may stand without a value.
func (o Option) Type() string {
	switch o.value.Interface().(type) {
	case time.Duration:
		return "duration"
	case []string:
		return "list"
	}
	return o.value.Kind().String()
}

// options lists the settings below a struct. Fields carry a yaml tag (the name)
// and a usage tag; nested structs become dotted paths.
func options(prefix string, config any) []Option {
	var all []Option
	v := reflect.ValueOf(config).Elem()
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		name := field.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		path := strings.TrimPrefix(prefix+"."+name, ".")
		if field.Type.Kind() == reflect.Struct {
			all = append(all, options(path, value.Addr().Interface())...)
			continue
		}
		all = append(all, Option{path, field.Tag.Get("usage"), written(value), value})
	}
	return all
}

// set reads text into the option's field.
func (o Option) set(text string) error {
	bad := func(want string) error {
		return fmt.Errorf("cannot use %q for %s: want %s", text, o.Path, want)
	}
	switch p := o.value.Addr().Interface().(type) {
	case *string:
		*p = text
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return bad("true or false")
		}
		*p = b
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return bad("a whole number")
		}
		*p = n
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return bad("a duration such as 30s or 5m")
		}
		*p = d
	case *[]string:
		*p = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	default:
		return fmt.Errorf("cannot set %s: no rule for a %T", o.Path, p)
	}
	return nil
}

func written(v reflect.Value) string {
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v.Interface())
}

// find looks an option up by path. For an unknown one, the error names the
// nearest that exists.
func find(all []Option, path string) (Option, error) {
	if i := slices.IndexFunc(all, func(o Option) bool { return o.Path == path }); i >= 0 {
		return all[i], nil
	}
	nearest := slices.MinFunc(all, func(a, b Option) int {
		return distance(path, a.Path) - distance(path, b.Path)
	})
	return Option{}, fmt.Errorf("cannot use unknown setting %q: the nearest known one is %q", path, nearest.Path)
}

// distance is the Levenshtein distance between two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
