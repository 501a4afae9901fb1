// Package spdx writes down what a program is made of, as SPDX 2.3 documents in JSON, so that whoever runs an image can look
// up what is known of its parts. It takes that from the build information that the Go linker leaves in every binary, so
// the document tells what was built and not what was meant to be.
//
// It never reads the network, go.mod or the clock: the same binary and description give the same bytes. It makes no
// statement about licences of others, which build information does not have.
package spdx

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// Program is one binary and the artifact that it is delivered in.
type Program struct {
	Artifact string // of the image or archive, as in herald-speaker
	Version  string
	Platform string    // as in linux/amd64
	Created  time.Time // of the sources: the same for each build of them
	Image    bool      // the artifact is an image and no archive
	Digest   [32]byte  // SHA-256 of the binary
	Info     *debug.BuildInfo
}

const (
	license  = "Apache-2.0"
	home     = "https://heraldlb.io/herald"
	supplier = "Organization: Herald"
	nothing  = "NOASSERTION"

	idDocument = "SPDXRef-DOCUMENT"
	idArtifact = "SPDXRef-Artifact"
	idProgram  = "SPDXRef-Program"
	idStd      = "SPDXRef-Go-std"
)

type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creationInfo   `json:"creationInfo"`
	Packages          []pkg          `json:"packages"`
	Relationships     []relationship `json:"relationships"`
}

type creationInfo struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	SPDXID                string        `json:"SPDXID"`
	Name                  string        `json:"name"`
	VersionInfo           string        `json:"versionInfo"`
	Supplier              string        `json:"supplier"`
	DownloadLocation      string        `json:"downloadLocation"`
	FilesAnalyzed         bool          `json:"filesAnalyzed"`
	LicenseConcluded      string        `json:"licenseConcluded"`
	LicenseDeclared       string        `json:"licenseDeclared"`
	CopyrightText         string        `json:"copyrightText"`
	PrimaryPackagePurpose string        `json:"primaryPackagePurpose"`
	Comment               string        `json:"comment,omitempty"`
	Checksums             []checksum    `json:"checksums,omitempty"`
	ExternalRefs          []externalRef `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type externalRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// Document returns the document of a program.
func Document(p Program) ([]byte, error) {
	if p.Info == nil || p.Info.Main.Path == "" {
		return nil, errors.New("the binary has no build information: build it with the Go toolchain, in module mode")
	}
	platform := strings.ReplaceAll(p.Platform, "/", "-")
	digest := hex.EncodeToString(p.Digest[:])
	doc := document{
		SPDXVersion:       "SPDX-2.3",
		DataLicense:       "CC0-1.0",
		SPDXID:            idDocument,
		Name:              fmt.Sprintf("%s-%s-%s", p.Artifact, p.Version, platform),
		DocumentNamespace: fmt.Sprintf("%s/spdx/%s/%s/%s/%s", home, p.Artifact, p.Version, platform, digest),
		CreationInfo:      creationInfo{p.Created.UTC().Format(time.RFC3339), []string{supplier, "Tool: mkimages-" + p.Version}},
		Relationships:     []relationship{{idDocument, "DESCRIBES", idArtifact}, {idArtifact, "CONTAINS", idProgram}, {idProgram, "DEPENDS_ON", idStd}},
	}
	artifact := ours(idArtifact, p.Artifact, p.Version, "ARCHIVE")
	if p.Image {
		artifact.PrimaryPackagePurpose = "CONTAINER"
	}
	program := ours(idProgram, p.Info.Path, p.Version, "APPLICATION")
	program.Checksums = []checksum{{"SHA256", digest}}
	program.ExternalRefs = purl(p.Info.Main.Path, p.Version)
	std := theirs(idStd, "std", strings.TrimPrefix(p.Info.GoVersion, "go"))
	std.LicenseDeclared = "BSD-3-Clause"
	doc.Packages = []pkg{artifact, program, std}
	for i, m := range p.Info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		module := theirs(fmt.Sprintf("SPDXRef-Module-%d", i+1), m.Path, m.Version)
		if m.Sum != "" {
			module.Comment = "go.sum " + m.Sum
		}
		doc.Packages = append(doc.Packages, module)
		doc.Relationships = append(doc.Relationships, relationship{idProgram, "DEPENDS_ON", module.SPDXID})
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	return append(out, '\n'), err
}

func ours(id, name, version, purpose string) pkg {
	return pkg{SPDXID: id, Name: name, VersionInfo: version, Supplier: supplier, DownloadLocation: home, LicenseConcluded: license,
		LicenseDeclared: license, CopyrightText: nothing, PrimaryPackagePurpose: purpose}
}

// theirs is a Go module of others, or the standard library.
func theirs(id, name, version string) pkg {
	return pkg{SPDXID: id, Name: name, VersionInfo: version, Supplier: nothing, DownloadLocation: nothing, LicenseConcluded: nothing,
		LicenseDeclared: nothing, CopyrightText: nothing, PrimaryPackagePurpose: "LIBRARY", ExternalRefs: purl(name, version)}
}

// purl is the package URL by which databases of vulnerabilities know a Go module. A + would be read as a space.
func purl(path, version string) []externalRef {
	return []externalRef{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")}}
}
