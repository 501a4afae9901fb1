// Package kube is where Herald meets the Kubernetes API: clients, informers with trimmed caches, and the writers
// of status and events. It knows how to read and write objects and decides nothing about them.
//
// Every read goes through an informer, so losing the API server loses no knowledge: caches keep their last state
// until the watch is back.
package kube

import (
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"heraldlb.io/herald/api/v1beta1"
)

// Client talks to the API server. It is safe for use by several goroutines.
//
// Kubernetes' own clientset would bring every type there is: a third of a program, and of what that keeps in memory, for the
// few that Herald needs.
type Client struct {
	// Herald is the REST client of group heraldlb.io.
	Herald rest.Interface

	core, discovery, events, authentication, authorization rest.Interface
}

// Scheme knows the types of group heraldlb.io.
var Scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := v1beta1.AddToScheme(s); err != nil {
		panic(err) // the types are ours: only a programming error gets here
	}
	return s
}()

// kubernetes knows the types of Kubernetes' own groups that Herald uses.
var kubernetes = func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, eventsv1.AddToScheme, authenticationv1.AddToScheme, authorizationv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err) // only a programming error gets here
		}
	}
	return s
}()

// parameters writes the options of requests.
var parameters = runtime.NewParameterCodec(kubernetes)

// Config returns how to reach the API server: by the kubeconfig file when one is named, else as a pod does, by its
// service account.
func Config(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("find the API server: %w (outside a pod, name a kubeconfig file with --kubeconfig)", err)
		}
		return cfg, nil
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	return cfg, nil
}

// NewClient makes a client. It sets no client-side rate limit: API priority and fairness at the server is what
// keeps clients from harming each other.
func NewClient(cfg *rest.Config, userAgent string) (*Client, error) {
	own := rest.CopyConfig(cfg)
	own.QPS = -1
	own.UserAgent = userAgent
	own.NegotiatedSerializer = serializer.NewCodecFactory(Scheme).WithoutConversion()
	theirs := rest.CopyConfig(own)
	theirs.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	theirs.ContentType = runtime.ContentTypeProtobuf
	theirs.NegotiatedSerializer = serializer.NewCodecFactory(kubernetes).WithoutConversion()

	c := &Client{}
	for _, g := range []struct {
		client *rest.Interface
		cfg    *rest.Config
		path   string
		group  schema.GroupVersion
	}{
		{&c.Herald, own, "/apis", v1beta1.GroupVersion},
		{&c.core, theirs, "/api", corev1.SchemeGroupVersion},
		{&c.discovery, theirs, "/apis", discoveryv1.SchemeGroupVersion},
		{&c.events, theirs, "/apis", eventsv1.SchemeGroupVersion},
		{&c.authentication, theirs, "/apis", authenticationv1.SchemeGroupVersion},
		{&c.authorization, theirs, "/apis", authorizationv1.SchemeGroupVersion},
	} {
		cfg := rest.CopyConfig(g.cfg)
		cfg.APIPath, cfg.GroupVersion = g.path, &g.group
		client, err := rest.RESTClientFor(cfg) // they share their connections, as all whose configuration is the same
		if err != nil {
			return nil, fmt.Errorf("make a client of %s for %s: %w", g.group, cfg.Host, err)
		}
		*g.client = client
	}
	return c, nil
}

func (c *Client) servicesOf(namespace string) *gentype.ClientWithList[*corev1.Service, *corev1.ServiceList] {
	return gentype.NewClientWithList("services", c.core, parameters, namespace,
		func() *corev1.Service { return &corev1.Service{} }, func() *corev1.ServiceList { return &corev1.ServiceList{} })
}

func (c *Client) secretsOf(namespace string) *gentype.Client[*corev1.Secret] {
	return gentype.NewClient("secrets", c.core, parameters, namespace, func() *corev1.Secret { return &corev1.Secret{} })
}

func (c *Client) configMapsOf(namespace string) *gentype.Client[*corev1.ConfigMap] {
	return gentype.NewClient("configmaps", c.core, parameters, namespace, func() *corev1.ConfigMap { return &corev1.ConfigMap{} })
}

func (c *Client) eventsOf(namespace string) *gentype.Client[*eventsv1.Event] {
	return gentype.NewClient("events", c.events, parameters, namespace, func() *eventsv1.Event { return &eventsv1.Event{} })
}

func (c *Client) tokenReviews() *gentype.Client[*authenticationv1.TokenReview] {
	return gentype.NewClient("tokenreviews", c.authentication, parameters, "", func() *authenticationv1.TokenReview { return &authenticationv1.TokenReview{} })
}

func (c *Client) accessReviews() *gentype.Client[*authorizationv1.SubjectAccessReview] {
	return gentype.NewClient("subjectaccessreviews", c.authorization, parameters, "", func() *authorizationv1.SubjectAccessReview { return &authorizationv1.SubjectAccessReview{} })
}
