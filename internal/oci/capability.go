package oci

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Layout of the extended attribute security.capability, struct vfs_cap_data of linux/capability.h, revision 2: a 32-bit
// word of revision and flags, then two pairs of 32-bit masks, permitted and inheritable, the low capabilities first; all
// little-endian on every architecture. Revision 3 adds the root uid of a user namespace, which an image has no use for.
const (
	vfsCapRevision2 = 0x02000000
	vfsCapSize      = 20
)

// capabilityNames are those of linux/capability.h, each at its own number.
var capabilityNames = []string{
	"cap_chown", "cap_dac_override", "cap_dac_read_search", "cap_fowner", "cap_fsetid", "cap_kill", "cap_setgid",
	"cap_setuid", "cap_setpcap", "cap_linux_immutable", "cap_net_bind_service", "cap_net_broadcast", "cap_net_admin",
	"cap_net_raw", "cap_ipc_lock", "cap_ipc_owner", "cap_sys_module", "cap_sys_rawio", "cap_sys_chroot",
	"cap_sys_ptrace", "cap_sys_pacct", "cap_sys_admin", "cap_sys_boot", "cap_sys_nice", "cap_sys_resource",
	"cap_sys_time", "cap_sys_tty_config", "cap_mknod", "cap_lease", "cap_audit_write", "cap_audit_control",
	"cap_setfcap", "cap_mac_override", "cap_mac_admin", "cap_syslog", "cap_wake_alarm", "cap_block_suspend",
	"cap_audit_read", "cap_perfmon", "cap_bpf", "cap_checkpoint_restore",
}

// fileCapability encodes what setcap would store for "name,...+p": the program may raise these capabilities, and has
// none in effect until it does.
//
// A container that runs as another user than root starts with empty permitted and effective sets, whatever its
// securityContext adds: exec keeps only what the file grants, cut to the bounding set. Under no_new_privs
// (allowPrivilegeEscalation: false) exec grants in addition nothing that the caller was not permitted; runtimes permit
// their init what securityContext adds, so the addition and the file's capability work together, and neither alone.
//
// The effective flag ("+ep") would spare the program the raising, but where the securityContext does not add the
// capability exec itself then fails, and the program cannot say what it lacks.
func fileCapability(names []string) ([]byte, error) {
	var permitted uint64
	for _, name := range names {
		number := slices.Index(capabilityNames, strings.ToLower(name))
		if number < 0 {
			return nil, fmt.Errorf("capability %q is unknown: use a name from linux/capability.h, as in CAP_NET_RAW", name)
		}
		permitted |= 1 << number
	}
	b := make([]byte, vfsCapSize)
	binary.LittleEndian.PutUint32(b[0:], vfsCapRevision2)
	binary.LittleEndian.PutUint32(b[4:], uint32(permitted))
	binary.LittleEndian.PutUint32(b[12:], uint32(permitted>>32))
	return b, nil
}
