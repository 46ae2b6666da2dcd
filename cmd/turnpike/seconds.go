package main

import (
	"errors"
	"strconv"
	"time"
)

// seconds is a flag for a time in whole seconds, written as a number or as a
// duration: 300 and 5m are the same.
type seconds int

func (s *seconds) String() string { return strconv.Itoa(int(*s)) }

// Type is shown in help texts.
func (s *seconds) Type() string { return "seconds" }

// Set reads the flag's value.
func (s *seconds) Set(text string) error {
	if n, err := strconv.Atoi(text); err == nil {
		*s = seconds(n)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d%time.Second != 0 {
		return errors.New("want whole seconds, such as 300 or 5m")
	}
	*s = seconds(d / time.Second)
	return nil
}
