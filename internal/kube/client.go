// Package kube is where Herald meets the Kubernetes API: clients, informers with trimmed caches, and the writers
// of status and events. It knows how to read and write objects and decides nothing about them.
//
// Every read goes through an informer, so losing the API server loses no knowledge: caches keep their last state
// until the watch is back.
package kube

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"heraldlb.io/herald/api/v1beta1"
)

// Client talks to the API server: to Kubernetes' own objects through the embedded interface, to Herald's through
// Herald. It is safe for use by several goroutines.
type Client struct {
	kubernetes.Interface

	// Herald is the REST client of group heraldlb.io.
	Herald rest.Interface
}

// Scheme knows the types of group heraldlb.io.
var Scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := v1beta1.AddToScheme(s); err != nil {
		panic(err) // the types are ours: only a programming error gets here
	}
	return s
}()

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
	core := rest.CopyConfig(cfg)
	core.QPS = -1
	core.UserAgent = userAgent
	core.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	core.ContentType = "application/vnd.kubernetes.protobuf"
	clientset, err := kubernetes.NewForConfig(core)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", cfg.Host, err)
	}

	own := rest.CopyConfig(cfg)
	own.QPS = -1
	own.UserAgent = userAgent
	own.APIPath = "/apis"
	own.GroupVersion = &v1beta1.GroupVersion
	own.NegotiatedSerializer = serializer.NewCodecFactory(Scheme).WithoutConversion()
	herald, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("make a client of group %s for %s: %w", v1beta1.GroupVersion.Group, cfg.Host, err)
	}
	return &Client{Interface: clientset, Herald: herald}, nil
}
