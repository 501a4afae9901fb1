package situations

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"heraldlb.io/herald/e2etest/situations/page"
)

const scripts = "testdata"

func TestSituations(t *testing.T) {
	all, err := page.Read(scripts)
	if err != nil {
		t.Fatal(err)
	}
	var together, alone []string
	shared := map[string]*sync.Mutex{}
	uses := map[string]*sync.Mutex{} // by script
	for _, s := range all {
		file := filepath.Join(scripts, s.Name+".txtar")
		if s.Alone != "" {
			alone = append(alone, file)
		} else {
			together = append(together, file)
		}
		if s.Uses != "" && shared[s.Uses] == nil {
			shared[s.Uses] = &sync.Mutex{}
		}
		uses[s.Name] = shared[s.Uses]
	}
	t.Run("together", func(t *testing.T) { runAll(t, together, uses, true) })
	t.Run("alone", func(t *testing.T) { runAll(t, alone, uses, false) })
}

// runAll runs scripts, at once or one after the other.
func runAll(t *testing.T, files []string, uses map[string]*sync.Mutex, parallel bool) {
	if len(files) == 0 {
		return
	}
	testscript.RunT(shim{t, parallel}, testscript.Params{
		Files:               files,
		Cmds:                commands,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			t := env.T().(shim)
			env.Values[theTest{}] = t.T
			env.Setenv("ROOT", root)
			if mu := uses[filepath.Base(t.Name())]; mu != nil {
				mu.Lock()
				env.Defer(mu.Unlock)
			}
			return nil
		},
	})
}

// theTest is the key of a script's *testing.T among its values.
type theTest struct{}

// shim is what testscript takes for a test. Its scripts run at once only where that is wanted.
type shim struct {
	*testing.T
	parallel bool
}

func (s shim) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(shim{t, s.parallel}) })
}

func (s shim) Parallel() {
	if s.parallel {
		s.T.Parallel()
	}
}

func (s shim) Verbose() bool { return testing.Verbose() }
