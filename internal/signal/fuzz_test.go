package signal

import (
	"bytes"
	"reflect"
	"testing"
)

// What decodes must encode again, and mean the same.

func FuzzDecode(f *testing.F) {
	seed(f, deviceMessages())
	f.Fuzz(func(t *testing.T, data []byte) { again(t, data, Decode) })
}

func FuzzDecodeControl(f *testing.F) {
	seed(f, controlMessages())
	f.Fuzz(func(t *testing.T, data []byte) { again(t, data, DecodeControl) })
}

func FuzzDecodeCommand(f *testing.F) {
	f.Add([]byte{0, 0, 0x20, 0})
	f.Add([]byte{0, 0, 0x1f, 0xff, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeCommand(data)
		if err != nil {
			return
		}
		if wire, err := EncodeCommand(c); err != nil || !bytes.Equal(wire, data) {
			t.Errorf("EncodeCommand = %x, %v; read from %x", wire, err, data)
		}
	})
}

func FuzzDecodeStreamMessage(f *testing.F) {
	f.Add([]byte{1, 2, 0, 0, 0, 0, 0, 1, 'x'})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeStreamMessage(data)
		if err != nil {
			return
		}
		wire, err := EncodeStreamMessage(m)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeStreamMessage(wire); err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%+v became %+v, %v", m, back, err)
		}
	})
}

func seed(f *testing.F, messages []Message) {
	for _, m := range messages {
		wire, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	for _, s := range []string{``, `{}`, `null`, `{"type":"hello"}`, `{"type":"offer","sdp":7}`, `{"TYPE":"end"}`, `{"type":"end","Session":"a","session":"b","reason":"x"}`} {
		f.Add([]byte(s))
	}
}

func again(t *testing.T, data []byte, decode func([]byte) (Message, error)) {
	m, err := decode(data)
	if err != nil {
		return
	}
	wire, err := Encode(m)
	if err != nil {
		if len(data) > MaxMessage/6 { // escaping may take it over the limit
			return
		}
		t.Fatalf("Encode(%+v): %v", m, err)
	}
	if back, err := decode(wire); err != nil || reflect.TypeOf(back) != reflect.TypeOf(m) {
		t.Errorf("%+v became %+v, %v", m, back, err)
	}
}
