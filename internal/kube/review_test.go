package kube_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/internal/kube"
)

func TestTheAPIServerKnowsWhoMayRead(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			t.Error(err)
		}
		switch o := obj.(type) {
		case *authenticationv1.TokenReview:
			if o.Spec.Token == "broken" {
				http.Error(w, "no", http.StatusInternalServerError)
				return
			}
			o.APIVersion, o.Kind = "authentication.k8s.io/v1", "TokenReview"
			if name, ok := strings.CutPrefix(o.Spec.Token, "token-of-"); ok {
				o.Status.Authenticated = true
				o.Status.User = authenticationv1.UserInfo{Username: name, Groups: []string{"all"}, Extra: map[string]authenticationv1.ExtraValue{"pod": {"p1"}}}
			}
		case *authorizationv1.SubjectAccessReview:
			o.APIVersion, o.Kind = "authorization.k8s.io/v1", "SubjectAccessReview"
			at := o.Spec.NonResourceAttributes
			o.Status.Allowed = o.Spec.User == "prometheus" && slices.Equal(o.Spec.Groups, []string{"all"}) &&
				slices.Equal(o.Spec.Extra["pod"], []string{"p1"}) && at.Path == "/metrics" && at.Verb == "get"
		default:
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(obj); err != nil {
			t.Error(err)
		}
	}))
	defer api.Close()
	c, err := kube.NewClient(&rest.Config{Host: api.URL}, "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		token, user string
		allowed     bool
	}{
		{"token-of-prometheus", "prometheus", true},
		{"token-of-somebody", "somebody", false},
		{"guess", "", false},
	} {
		user, allowed, err := c.Review(t.Context(), want.token, "/metrics")
		if err != nil || user != want.user || allowed != want.allowed {
			t.Errorf("%s: %q, allowed %v, error %v; want %q, %v", want.token, user, allowed, err, want.user, want.allowed)
		}
	}
	if _, _, err := c.Review(t.Context(), "broken", "/metrics"); err == nil {
		t.Error("no error when the API server has none to say")
	}
}
