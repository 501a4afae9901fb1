package gossip

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestSecrets(t *testing.T) {
	long := strings.Repeat("x", minSecret)
	for name, tc := range map[string]struct {
		in   string
		keys int
		err  string
	}{
		"one":                        {secret, 1, ""},
		"one in a file":              {secret + "\n", 1, ""},
		"two":                        {secret + "\r\n\n  " + long + "\n", 2, ""},
		"the same twice":             {secret + "\n" + secret, 1, ""},
		"none":                       {"", 0, "it is empty"},
		"only space":                 {" \n\n", 0, "it is empty"},
		"a short one":                {"short", 0, "line 1 has 5 bytes"},
		"a short one behind another": {secret + "\nshort\n", 0, "line 2 has 5 bytes"},
		"too many": {func() (s string) {
			for i := range maxSecrets + 1 {
				s += fmt.Sprintf("%s%d\n", long, i)
			}
			return s
		}(), 0, "it has 9 lines"},
	} {
		keys, err := deriveKeys([]byte(tc.in))
		if len(keys) != tc.keys || (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
	a, _ := deriveKeys([]byte(secret + "\n"))
	b, _ := deriveKeys([]byte(long + "\n" + secret))
	if string(a[0]) != string(b[1]) || string(a[0]) == secret || len(a[0]) != 32 {
		t.Error("a key depends on more than its line, or is not derived")
	}
}

func TestARotation(t *testing.T) {
	for name, story := range map[string][]struct {
		after  time.Duration
		wanted string
		holds  string
	}{
		"a key is added, used and the old one dropped": {
			{0, "a", "a"},
			{time.Hour, "ab", "ab"},
			{time.Hour, "ba", "ba"},
			{time.Hour, "b", "ba"},
			{keyDelay - time.Second, "b", "ba"},
			{time.Second, "b", "b"},
		},
		"a key is added in front": {
			{0, "a", "a"},
			{time.Hour, "ba", "ab"},
			{keyDelay, "ba", "ba"},
			{time.Hour, "ba", "ba"},
		},
		"a key is replaced": {
			{0, "a", "a"},
			{time.Hour, "b", "ab"},
			{keyDelay - time.Second, "b", "ab"},
			{time.Second, "b", "ba"},
			{keyDelay - time.Second, "b", "ba"},
			{time.Second, "b", "b"},
		},
		"a key is replaced by mistake": {
			{0, "a", "a"},
			{time.Hour, "b", "ab"},
			{time.Minute, "a", "ab"},
			{keyDelay, "a", "a"},
		},
		"who starts speaks with the first at once": {
			{0, "ba", "ba"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			var k *keychain
			for i, step := range story {
				now = now.Add(step.after)
				var secrets string
				for _, name := range step.wanted {
					secrets += strings.Repeat(string(name), minSecret) + "\n"
				}
				wanted, err := deriveKeys([]byte(secrets))
				if err == nil && k == nil {
					k, err = newKeychain(now, wanted)
				}
				if err != nil {
					t.Fatal(err)
				}
				k.update(now, wanted)
				if err := k.install(); err != nil {
					t.Fatal(err)
				}
				held := ""
				a, _ := deriveKeys([]byte(strings.Repeat("a", minSecret)))
				for _, key := range k.ring.GetKeys() {
					held += map[bool]string{true: "a", false: "b"}[string(key) == string(a[0])]
				}
				if held != step.holds {
					t.Errorf("step %d: it holds %q, want %q", i, held, step.holds)
				}
			}
		})
	}
}

// What one member has done already and another has not, while the secret is edited in three steps.
func TestMembersInTheMiddleOfARotationUnderstandEachOther(t *testing.T) {
	other := strings.Repeat("another ", 3)
	for _, pair := range [][2]string{
		{secret, secret + "\n" + other},
		{secret + "\n" + other, other + "\n" + secret},
		{other + "\n" + secret, other},
	} {
		n := newNetwork(t)
		var ms []*member
		for i, s := range pair {
			ms = append(ms, n.start(fmt.Sprintf("n%d", i+1), func(c *Config) {
				c.Secret = func() ([]byte, error) { return []byte(s), nil }
			}))
		}
		for _, m := range ms {
			m.Want([]Peer{ms[0].peer, ms[1].peer})
		}
		for _, m := range ms {
			sees(t, m, "n1 n2", 5*time.Second)
		}
	}
}
