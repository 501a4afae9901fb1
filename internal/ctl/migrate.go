package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"heraldlb.io/herald/internal/migrate"
	"heraldlb.io/herald/internal/report"
)

func (a *app) migrate() *cobra.Command {
	var files, products []string
	for _, p := range migrate.Products() {
		products = append(products, p.Name)
	}
	var dir string
	cmd := &cobra.Command{
		Use:   "migrate " + strings.Join(products, "|") + " [-f FILE...]",
		Short: "Convert the configuration of another load balancer",
		Long: `Convert the configuration of another load balancer into Herald's objects, with what Services ask for, and list what does
not carry over. It is read from the cluster or from files, and nothing is changed in the cluster. Herald's objects go to
standard output, or into files to be applied one after the other; what there is to know goes to standard error.`,
		Example:   "heraldctl migrate metallb --dir herald",
		ValidArgs: products,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || !slices.Contains(products, args[0]) {
				return usageError{fmt.Errorf("name what to convert: %s", strings.Join(products, ", "))}
			}
			if len(args) > 1 && len(files) == 0 {
				return usageError{errors.New("name files with -f")}
			}
			files = append(files, args[1:]...) // -f a b c, as a shell expands -f *.yaml
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p := migrate.Products()[slices.Index(products, args[0])]
			inputs, err := a.migrationInputs(cmd.Context(), p, files)
			if err != nil {
				return err
			}
			r := p.Convert(inputs)
			if err := cmp.Or(a.writeMigration(r, dir), a.reportMigration(r)); err != nil {
				return err
			}
			return attention(!r.Complete())
		},
	}
	cmd.Flags().StringSliceVarP(&files, "filename", "f", nil, "`file` or directory to read in place of the cluster, several times if need be; - is standard input")
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` to write pools.yaml, layer2.yaml, bgp.yaml and annotate.sh into")
	return cmd
}

// migrationInputs reads the files, or the cluster where none is named.
func (a *app) migrationInputs(ctx context.Context, p migrate.Product, files []string) ([]migrate.Input, error) {
	if len(files) > 0 {
		data, err := a.readFiles(files)
		if err != nil {
			return nil, err
		}
		var inputs []migrate.Input
		for _, name := range slices.Sorted(maps.Keys(data)) {
			inputs = append(inputs, migrate.Input{Name: name, Text: data[name]})
		}
		return inputs, nil
	}
	_, cfg, err := a.client()
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	return inputsOf(ctx, client, p)
}

// inputsOf reads all that a product's configuration may be in. What the cluster does not know is not there.
func inputsOf(ctx context.Context, client dynamic.Interface, p migrate.Product) ([]migrate.Input, error) {
	var inputs []migrate.Input
	configured := false
	done := map[schema.GroupResource]bool{}
	for _, r := range p.Resources {
		if r.Name == "" && done[r.GroupResource()] {
			continue
		}
		objects, err := objectsOf(ctx, client, r)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, clarify("read "+r.Resource, err)
		}
		done[r.GroupResource()] = true
		configured = configured || r.Resource != "services"
		for _, o := range objects {
			inputs = append(inputs, migrate.Input{Name: "cluster", Object: o.Object})
		}
	}
	if !configured {
		return nil, fmt.Errorf("the cluster has no configuration of %s: name files with -f, or another --context", p.Title)
	}
	return inputs, nil
}

func objectsOf(ctx context.Context, client dynamic.Interface, r migrate.Resource) ([]unstructured.Unstructured, error) {
	in := client.Resource(r.GroupVersionResource).Namespace(r.Namespace)
	if r.Name != "" {
		o, err := in.Get(ctx, r.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return []unstructured.Unstructured{*o}, nil
	}
	list, err := in.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// writeMigration prints the objects, or writes them and the annotations into files of a directory.
func (a *app) writeMigration(r migrate.Result, dir string) error {
	if dir == "" {
		_, err := io.WriteString(a.Out, migrate.Documents(r.Objects))
		return err
	}
	objects := map[string][]migrate.Object{}
	for _, o := range r.Objects {
		objects[o.File()] = append(objects[o.File()], o)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err // it names the directory
	}
	for _, name := range []string{migrate.FilePools, migrate.FileLayer2, migrate.FileBGP} {
		if err := create(dir, name, migrate.Documents(objects[name])); err != nil {
			return err
		}
	}
	return create(dir, "annotate.sh", r.Script())
}

// create writes a file that is not there yet: what is there may have been edited.
func create(dir, name, text string) error {
	if text == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already and may have been edited: name another directory with --dir", filepath.Join(dir, name))
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// reportMigration says what there is to know.
func (a *app) reportMigration(r migrate.Result) error {
	for _, f := range r.Findings {
		where := f.Place()
		if about := f.About(); about != "" {
			where += ": " + about
		}
		if _, err := fmt.Fprintf(a.Err, "%s: %s: %s\n", f.Level, where, f.Message); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.Err, "%s made, %s to annotate, %s to read above\n", report.Count(len(r.Objects), "object"), report.Count(len(r.Services), "Service"), report.Count(len(r.Findings), "line"))
	return err
}
