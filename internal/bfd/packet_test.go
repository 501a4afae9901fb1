package bfd

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// captured reads a packet that a router has sent.
func captured(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/packets", name+".hex"))
	check(t, err)
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	check(t, err)
	return b
}

func TestCapturedPackets(t *testing.T) {
	const slow, pace = time.Second, 100 * time.Millisecond
	wanted := map[string]packet{
		"frr-8.4.4-init":                          {state: Init, multiplier: 5, mine: 0x5c95d03d, yours: 0x4f3dcd3c, desiredTx: slow, requiredRx: slow},
		"frr-8.4.4-up-poll":                       {state: Up, poll: true, multiplier: 5, mine: 0x5c95d03d, yours: 0x4f3dcd3c, desiredTx: pace, requiredRx: pace},
		"frr-8.4.4-up-final":                      {state: Up, final: true, multiplier: 5, mine: 0x5c95d03d, yours: 0x4f3dcd3c, desiredTx: pace, requiredRx: pace},
		"frr-8.4.4-up":                            {state: Up, multiplier: 5, mine: 0xb4bbce73, yours: 0x4f3dcd3c, desiredTx: pace, requiredRx: pace},
		"frr-8.4.4-admin-down-poll":               {state: AdminDown, poll: true, multiplier: 5, mine: 0x9de875bc, yours: 0x8be77f84, desiredTx: pace, requiredRx: pace},
		"frr-8.4.4-down-neighbor-signaled":        {state: Down, diagnostic: NeighborSignaledDown, multiplier: 5, mine: 0xb4bbce73, yours: 0x4f3dcd3c, desiredTx: slow, requiredRx: slow},
		"bird-2.0.12-down":                        {state: Down, multiplier: 5, mine: 0x2332315d, desiredTx: slow, requiredRx: pace},
		"bird-2.0.12-up-poll":                     {state: Up, poll: true, multiplier: 5, mine: 0x0f042cfc, yours: 0x29f7b468, desiredTx: pace, requiredRx: pace},
		"bird-2.0.12-up-final":                    {state: Up, final: true, multiplier: 5, mine: 0x3807b1bf, yours: 0x783559ac, desiredTx: pace, requiredRx: pace},
		"bird-2.0.12-up":                          {state: Up, multiplier: 5, mine: 0x2332315d, yours: 0x3f1f595c, desiredTx: pace, requiredRx: pace},
		"bird-2.0.12-down-neighbor-signaled-poll": {state: Down, poll: true, diagnostic: NeighborSignaledDown, multiplier: 5, mine: 0xd67c3462, yours: 0x783559ac, desiredTx: slow, requiredRx: pace},
	}
	files, err := filepath.Glob("testdata/packets/*.hex")
	check(t, err)
	if len(files) != len(wanted) {
		t.Errorf("%d files for %d packets", len(files), len(wanted))
	}
	for name, want := range wanted {
		t.Run(name, func(t *testing.T) {
			b := captured(t, name)
			got, err := parse(b)
			if err != nil || got != want {
				t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
			}
			// What we would send in its place differs in the interval for echo packets alone, which FRR offers.
			if ours := got.bytes(); !bytes.Equal(ours[:20], b[:20]) || !bytes.Equal(ours[20:], []byte{0, 0, 0, 0}) {
				t.Errorf("written again: %x\nread:          %x", ours, b)
			}
		})
	}
}

// The checks of RFC 5880, section 6.8.6, that need no session.
func TestPacketsThatAreDropped(t *testing.T) {
	good := captured(t, "frr-8.4.4-up")
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		want   error
	}{
		{"nothing at all", func([]byte) []byte { return nil }, errMalformed},
		{"cut short", func(b []byte) []byte { return b[:23] }, errMalformed},
		{"version 0", func(b []byte) []byte { b[0] &= 0x1f; return b }, errVersion},
		{"version 2", func(b []byte) []byte { b[0] = 2 << 5; return b }, errVersion},
		{"a length that leaves the mandatory part out", func(b []byte) []byte { b[3] = 23; return b }, errMalformed},
		{"a length beyond the end", func(b []byte) []byte { b[3] = 25; return b }, errMalformed},
		{"multiplier 0", func(b []byte) []byte { b[2] = 0; return b }, errMalformed},
		{"multipoint", func(b []byte) []byte { b[1] |= 1; return b }, errMalformed},
		{"no discriminator of the sender", func(b []byte) []byte { clear(b[4:8]); return b }, errMalformed},
		{"up and does not know us", func(b []byte) []byte { clear(b[8:12]); return b }, errMalformed},
		{"a simple password", func(b []byte) []byte {
			b[1] |= 4
			b = append(b, 1, 9, 1, 's', 'e', 'c', 'r', 'e', 't')
			b[3] = byte(len(b))
			return b
		}, errAuthentication},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse(c.change(bytes.Clone(good))); err != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	t.Run("but not for bytes behind it", func(t *testing.T) {
		if _, err := parse(append(bytes.Clone(good), 0, 0)); err != nil {
			t.Error(err)
		}
	})
}

// FuzzPackets has a session hear anything: it never sends more than it may, and its timers never stand still.
func FuzzPackets(f *testing.F) {
	files, err := filepath.Glob("testdata/packets/*.hex")
	check(f, err)
	for _, name := range files {
		f.Add(captured(f, strings.TrimSuffix(filepath.Base(name), ".hex")), captured(f, "frr-8.4.4-up"))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := tell(t, fast)
		for _, b := range [][]byte{first, second, first} {
			p, err := parse(b)
			if err != nil {
				continue
			}
			again := p
			again.demand = false // which is never sent
			if got, err := parse(again.bytes()); err != nil || got != again {
				t.Fatalf("%+v becomes %+v, %v", again, got, err)
			}
			s.take(s.m.receive(p, s.now))
			if p.poll && s.m.state != AdminDown && !s.last().final {
				t.Fatal("a poll was not answered")
			}
			start := len(s.sent)
			s.wait(time.Second)
			if n := len(s.sent) - start; n > 28 { // 1 s / 50 ms, all of it jitter, and changes of state
				t.Fatalf("%d packets in a second", n)
			}
			for _, sent := range s.sent[start:] {
				if sent.poll && sent.final {
					t.Fatal("poll and final in one packet")
				}
			}
		}
	})
}
