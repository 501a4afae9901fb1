package service

import "fmt"

// Reason says in one CamelCase word why a Service does not get what it asks for. It is the reason of
// ConditionAllocated.
type Reason string

// The reasons for which a request is refused whatever the pools hold. Package ipam has the others.
const (
	// InvalidAddress: what is asked for as an address is none.
	InvalidAddress Reason = "InvalidAddress"
	// TooManyAddresses: more than one address of each family is asked for.
	TooManyAddresses Reason = "TooManyAddresses"
	// ConflictingAddresses: two different addresses of one family are asked for.
	ConflictingAddresses Reason = "ConflictingAddresses"
	// FamilyMismatch: an address is asked for of a family that the Service does not have.
	FamilyMismatch Reason = "FamilyMismatch"
	// InvalidPool: what is asked for as a pool cannot be a pool's name.
	InvalidPool Reason = "InvalidPool"
	// InvalidNamespace: what is named as a namespace to share with cannot be one.
	InvalidNamespace Reason = "InvalidNamespace"
)

// Refusal says why a Service does not get all it asks for.
type Refusal struct {
	Reason Reason
	// Message is a clause: what stands in the way, and what would help. It stays the same for as long as the refusal
	// stands.
	Message string
}

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}

// quotedLength is how much of a user's text a message repeats. An annotation may have 256 KiB, an event's note 1 KiB.
const quotedLength = 64

// Quote puts a user's text between quotation marks for a message, its end cut off if it is long.
func Quote(s string) string {
	if len(s) <= quotedLength {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q...", s[:quotedLength])
}
