//go:build !race

package announce

const simHistories = 5000
