package ctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/internal/cmdline"
	"heraldlb.io/herald/internal/report"
)

const (
	// logLines is how many lines of each log a bundle holds at most, and logBytes how much of it.
	logLines = 20_000
	logBytes = 4 << 20
)

func (a *app) bundle() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "Put all that a maintainer needs into one file, without secrets",
		Long: `Put all that a maintainer needs into one .tar.gz: Herald's objects, workloads, events and logs, the Services of type
LoadBalancer with their endpoints, the nodes, and what status and doctor say of them. No Secret is read; settings of
containers other than Herald's own and what kubectl apply keeps in annotations are left out. Look through it before you
give it away: names and addresses of your cluster are in it.`,
		Example: "heraldctl support-bundle -f bundle.tar.gz",
		Args:    takes("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, err := a.collect(cmd.Context())
			if err != nil {
				return err
			}
			data, err := archive(files, a.Now())
			if err != nil {
				return fmt.Errorf("make the bundle: %w", err)
			}
			if file == stdin {
				_, err = a.Out.Write(data)
				return err
			}
			if err := os.WriteFile(file, data, 0o600); err != nil {
				return fmt.Errorf("write the bundle: %w", err)
			}
			_, err = fmt.Fprintf(a.Out, "%s: %s, %d KiB\n", file, report.Count(len(files), "file"), len(data)>>10)
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "filename", "f", "herald-support.tar.gz", "`file` to write; - is standard output")
	return cmd
}

// entry is a file of a bundle.
type entry struct {
	name string
	data []byte
}

// collect reads all that goes into a bundle. What cannot be read is told in it.
func (a *app) collect(ctx context.Context) ([]entry, error) {
	checks, _, err := a.diagnose(ctx)
	if err != nil {
		return nil, err
	}
	s, client, err := a.snapshot(ctx, want{useful: slices.Concat(all, []part{endpointSlices, namespaces, events})})
	if err != nil {
		return nil, err
	}
	clean(s)
	var files []entry
	for _, f := range []struct {
		name  string
		value any
	}{
		{"doctor.yaml", checks}, {"status.yaml", report.StatusOf(s)}, {"announcements.yaml", report.Announcements(s, report.Filter{})},
		{"configuration.yaml", s.Resources}, {"speakers.yaml", s.Speakers}, {"announcementslices.yaml", s.AnnouncementSlices},
		{"services.yaml", s.Services}, {"endpointslices.yaml", s.EndpointSlices}, {"nodes.yaml", s.Nodes},
		{"events.yaml", report.Events(s, "", false)}, {"deployment.yaml", s.Deployment}, {"daemonset.yaml", s.DaemonSet}, {"pods.yaml", s.Pods},
		{"lease.yaml", s.Lease}, {"unread.yaml", s.Unread},
		{"heraldctl.yaml", map[string]string{"version": cmdline.Version(), "commit": cmdline.Commit(), "time": s.Now.UTC().String(), "configuration": s.Source}},
	} {
		data, err := yaml.Marshal(f.value)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		files = append(files, entry{f.name, data})
	}
	for _, p := range s.Pods {
		files = append(files, logs(ctx, client, p)...)
	}
	return files, nil
}

// logs reads the logs of a pod's containers, and of those before them when they were restarted.
func logs(ctx context.Context, client *apiClient, p corev1.Pod) []entry {
	var out []entry
	for _, c := range p.Status.ContainerStatuses {
		for _, previous := range []bool{false, true} {
			if previous && c.RestartCount == 0 {
				continue
			}
			lines, bytes := int64(logLines), int64(logBytes)
			data, err := client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{
				Container: c.Name, Previous: previous, TailLines: &lines, LimitBytes: &bytes, Timestamps: true,
			}).DoRaw(ctx)
			name := "logs/" + p.Name + "." + c.Name
			if previous {
				name += ".previous"
			}
			if err != nil {
				name, data = name+".error", []byte(err.Error())
			}
			out = append(out, entry{name + ".log", data})
		}
	}
	return out
}

// leftOut stands for what a bundle does not hold.
const leftOut = "(left out)"

// clean takes out of the objects what may be secret and what nobody reads.
func clean(s *report.Snapshot) {
	strip := func(o metav1.Object) {
		o.SetManagedFields(nil)
		delete(o.GetAnnotations(), corev1.LastAppliedConfigAnnotation)
	}
	spec := func(p *corev1.PodSpec) {
		for _, containers := range [][]corev1.Container{p.InitContainers, p.Containers} {
			for i := range containers {
				for j := range containers[i].Env {
					if e := &containers[i].Env[j]; e.Value != "" && !strings.HasPrefix(e.Name, "HERALD_") {
						e.Value = leftOut
					}
				}
			}
		}
	}
	r := s.Resources
	for _, objects := range [][]metav1.Object{
		as(r.Pools), as(r.L2Advertisements), as(r.BGPAdvertisements), as(r.BGPPeers), as(r.BFDProfiles), as(r.Communities),
		as(pointers(s.Speakers)), as(pointers(s.AnnouncementSlices)), as(pointers(s.Services)), as(pointers(s.EndpointSlices)),
		as(pointers(s.Nodes)), as(pointers(s.Pods)),
	} {
		for _, o := range objects {
			strip(o)
		}
	}
	for i := range s.Pods {
		spec(&s.Pods[i].Spec)
	}
	if s.Deployment != nil {
		strip(&s.Deployment.ObjectMeta)
		strip(&s.Deployment.Spec.Template.ObjectMeta)
		spec(&s.Deployment.Spec.Template.Spec)
	}
	if s.DaemonSet != nil {
		strip(&s.DaemonSet.ObjectMeta)
		strip(&s.DaemonSet.Spec.Template.ObjectMeta)
		spec(&s.DaemonSet.Spec.Template.Spec)
	}
}

func as[T metav1.Object](objects []T) []metav1.Object {
	out := make([]metav1.Object, len(objects))
	for i, o := range objects {
		out[i] = o
	}
	return out
}

// archive packs files.
func archive(files []entry, now time.Time) ([]byte, error) {
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	pack := tar.NewWriter(zip)
	for _, f := range files {
		if err := pack.WriteHeader(&tar.Header{Name: "herald-support/" + f.name, Mode: 0o600, Size: int64(len(f.data)), ModTime: now}); err != nil {
			return nil, err
		}
		if _, err := io.Copy(pack, bytes.NewReader(f.data)); err != nil {
			return nil, err
		}
	}
	if err := pack.Close(); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
