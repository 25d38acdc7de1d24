// SPDX-License-Identifier: Apache-2.0
// JSON Schema (2020-12): a grammar of values that satisfy a schema, all of which do. What cannot be followed exactly is refused
// with its place, "schema.json#/properties/age/not", and never passed over. Annotations are; so are keywords that nobody defined,
// as the specification has it, but not those that look like a typing error.
//   followed   type, enum, const; properties, required, additionalProperties, patternProperties, propertyNames, minProperties,
//              maxProperties; prefixItems, items, minItems, maxItems; minLength, maxLength, pattern (regex.h), format
//              (string_formats.h; of numbers int32, int64, float, double); minimum, maximum and their exclusive forms, multipleOf a
//              whole number; allOf, anyOf, oneOf where no two can hold at once, not of true or false; $ref into the document, also
//              in circles, $defs, $anchor
//   refused    if, contains, uniqueItems, dependentRequired, dependentSchemas, unevaluatedProperties, unevaluatedItems,
//   $dynamicRef,
//              other uses of not, references to other documents; minProperties where some of several optional members must be there
// The values are written as json_text.h says, and a model has no more freedom than it needs:
//   members of objects stand in the order of "properties", then what "required" names beyond them, then others; optional ones may
//   be left out; others are only written where some schema says what they are (additionalProperties, patternProperties) or none
//   names any; items behind "prefixItems" only where "items" says what they are a schema without "type" whose keywords are all
//   about one type allows that type only a JSON value nests at most kMaxJsonNesting deep
#pragma once

#include <string>

#include "base/json.h"
#include "grammar/grammar.h"

namespace puna {

// `where` names the schema in messages. Throws kBadInput for what is no schema, or allows no value; kUnsupported for what cannot be
// followed, above the limits of what it is built from, and past a CompileBudget.
Grammar json_schema_grammar(const Json& schema, const std::string& where);
// Any object at all.
Grammar json_object_grammar();

inline constexpr int kMaxJsonNesting = 150;

}  // namespace puna
