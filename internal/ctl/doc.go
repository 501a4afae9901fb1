// Package ctl is heraldctl's commands: flags, reading the cluster once, and printing what package report makes of it.
//
// It owns the command line: names, flags, exit codes and output formats, which are API. It decides nothing about
// addresses: what it says about them is computed by the code that the controller and the speakers run. It reads and
// never watches, writes only where a command's name says so, and reads no Secret.
package ctl
