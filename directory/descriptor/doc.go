// Package descriptor is the grammar of security descriptors, as Active Directory has
// them in nTSecurityDescriptor: who may do what with an object. It reads them, and adds
// or takes away what one account is allowed; it judges nothing but who is named for a
// right.
//
// # Standards
//
// [MS-DTYP] 2.4.2 (SID), 2.4.4 (access control entries), 2.4.5 (lists of them), 2.4.6
// (descriptors); [MS-ADTS] 5.1.3 (what the rights mean in a directory).
//
// # Limits
//
// A descriptor has at most MaxSize octets and MaxEntries entries. Entries of kinds that
// nobody uses in a directory (compound, callback, audit) are left out.
//
// # Security
//
// Only who is named for a right by an entry that allows just that has it here: all
// rights, as administrators have over everything, name nobody. Where an entry that
// denies the right stands before, nobody gets it by those behind, for whether somebody
// is in a group cannot be told from a descriptor.
package descriptor
