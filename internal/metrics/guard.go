package metrics

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// Reviewer tells who the bearer of a token is and whether they may get a path of this process.
type Reviewer interface {
	// Review returns the bearer's name, empty when the token is nobody's. An error means that nobody knows.
	Review(ctx context.Context, token, path string) (user string, allowed bool, err error)
}

const (
	// believed is for how long an answer holds: a token that is taken back is refused a minute later, and a scrape every
	// few seconds costs the API server next to nothing. What is refused is asked about again sooner, so that who has just
	// been given the right need not wait.
	believed, refused = time.Minute, 10 * time.Second
	// remembered is how many answers are kept. More tokens than this are somebody's guesses.
	remembered = 256
	// asking is how many questions are under way at once: a flood of tokens must not become a flood at the API server.
	asking = 4
	// answerTime is how long a question may take.
	answerTime = 5 * time.Second
)

// guard lets those in who have a token that may read.
type guard struct {
	reviewer Reviewer
	logger   log.Logger
	turns    chan struct{}

	mu    sync.Mutex
	known map[[sha256.Size]byte]answer // by token, which itself is not kept
}

type answer struct {
	user    string
	allowed bool
	until   time.Time
}

func newGuard(r Reviewer, logger log.Logger) *guard {
	return &guard{reviewer: r, logger: logger, turns: make(chan struct{}, asking), known: map[[sha256.Size]byte]answer{}}
}

// admit puts the guard before next.
func (g *guard) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
			return
		}
		a, err := g.ask(r.Context(), token, r.URL.Path)
		switch {
		case err != nil:
			level.Debug(g.logger).Log("msg", "cannot find out who wants to read the metrics", "err", err)
			http.Error(w, "the API server does not say whose token this is", http.StatusServiceUnavailable)
		case a.user == "":
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			http.Error(w, "the token is not valid", http.StatusUnauthorized)
		case !a.allowed:
			http.Error(w, a.user+" may not get "+r.URL.Path+": a ClusterRole with this nonResourceURL allows it", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ask returns what is known of a token, or asks. There is one guarded path, so the token alone says it all.
func (g *guard) ask(ctx context.Context, token, path string) (answer, error) {
	key := sha256.Sum256([]byte(token))
	if a, ok := g.recall(key); ok {
		return a, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	select {
	case g.turns <- struct{}{}:
		defer func() { <-g.turns }()
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
	user, allowed, err := g.reviewer.Review(ctx, token, path)
	if err != nil {
		return answer{}, err
	}
	a := answer{user: user, allowed: allowed, until: time.Now().Add(refused)}
	if allowed {
		a.until = time.Now().Add(believed)
	}
	g.keep(key, a)
	return a, nil
}

func (g *guard) recall(key [sha256.Size]byte) (answer, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, ok := g.known[key]
	return a, ok && time.Now().Before(a.until)
}

func (g *guard) keep(key [sha256.Size]byte, a answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.known) >= remembered {
		clear(g.known)
	}
	g.known[key] = a
}
