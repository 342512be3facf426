package ldap

import (
	"fmt"
	"slices"
	"strings"
)

// selfWritable are attributes that people may write in their own entry: in Active
// Directory those of the property sets Personal-Information and Web-Information,
// which Self may write by default, and elsewhere those that servers and
// instructions open to their owners. In lower case, sorted.
var selfWritable = func() []string {
	list := strings.Fields(`
		assistant audio c carlicense comment description displayname facsimiletelephonenumber
		homephone homepostaladdress info initials internationalisdnnumber ipphone jpegphoto l labeleduri
		mobile msds-externaldirectoryobjectid msds-geocoordinatesaltitude msds-geocoordinateslatitude
		msds-geocoordinateslongitude msmqdigests msmqsigncertificates otherfacsimiletelephonenumber
		otherhomephone otheripphone othermobile otherpager othertelephone pager personaltitle photo
		physicaldeliveryofficename postaladdress postalcode postofficebox preferreddeliverymethod
		preferredlanguage primaryinternationalisdnnumber primarytelexnumber registeredaddress roomnumber
		secretary seealso st street streetaddress telephonenumber teletexterminalidentifier telexnumber
		thumbnailphoto url usercert usercertificate usersharedfolder usersharedfolderother
		usersmimecertificate wwwhomepage x121address`)
	for i := 1; i <= 20; i++ {
		list = append(list, fmt.Sprintf("msds-cloudextensionattribute%d", i))
	}
	slices.Sort(list)
	return list
}()

// SelfWritable reports whether people can usually write an attribute of their own
// entry.
func SelfWritable(attribute string) bool {
	bare, _, _ := strings.Cut(strings.ToLower(attribute), ";")
	_, ok := slices.BinarySearch(selfWritable, bare)
	return ok
}

// ofLists are the fields that are read of lists only. Nobody writes the entry of a
// group as their own.
var ofLists = []string{
	"external_member", "list_policy", "member", "member_login", "moderator", "owner", "query", "query_base",
}

// checkTrust refuses a field with power that the configuration reads from what
// people write themselves, unless the configuration says that it trusts that.
func (c Config) checkTrust() []error {
	var errs []error
	for field, sources := range c.Mapping {
		level, ok := levelOf(field)
		if !ok || level != Power || slices.Contains(ofLists, field) || slices.Contains(c.Trusted, field) {
			continue
		}
		for _, text := range sources {
			attribute, _, _ := strings.Cut(text, ":")
			if SelfWritable(attribute) {
				errs = append(errs, fmt.Errorf(`mapping: %s: people can write %s in their own entry, by default or in many directories, and would give themselves what they like: use a policy group instead ([[policy]]), or, if you have taken that right away from them, add trusted = ["%s"]`, field, attribute, field))
			}
		}
	}
	for _, field := range c.Trusted {
		if _, ok := levelOf(field); !ok {
			errs = append(errs, fmt.Errorf("trusted: no field %q; there are %s", field, strings.Join(fieldNames(), ", ")))
		}
	}
	return errs
}
