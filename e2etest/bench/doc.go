// Package bench measures Herald on a real Kubernetes cluster, each figure beside a bound or a peer in the same run,
// because machines differ and are noisy. It holds benchmarks alone: `make bench` runs them.
package bench
