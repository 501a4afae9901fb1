package kube

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Review asks the API server whose token this is, and whether they may get a path that is no resource's. The name is
// empty when the token is nobody's.
func (c *Client) Review(ctx context.Context, token, path string) (user string, allowed bool, err error) {
	who, err := c.tokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return "", false, fmt.Errorf("ask the API server whose token this is: %w", err)
	}
	if !who.Status.Authenticated {
		return "", false, nil
	}
	u := who.Status.User
	extra := make(map[string]authorizationv1.ExtraValue, len(u.Extra))
	for k, v := range u.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	may, err := c.accessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: u.Username, UID: u.UID, Groups: u.Groups, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", false, fmt.Errorf("ask the API server whether %s may get %s: %w", u.Username, path, err)
	}
	return u.Username, may.Status.Allowed, nil
}
